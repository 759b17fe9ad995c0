-- Values that no reader of ours knows: column, value and how many rows carry it.
WITH found AS (
    SELECT 'stg_decisions.decision' AS column_name, decision AS value
    FROM staging.stg_decisions
    WHERE decision IS NULL OR decision NOT IN ('allow', 'downgrade', 'deny')
    UNION ALL
    SELECT 'stg_decisions.primitive', primitive
    FROM staging.stg_decisions
    WHERE primitive NOT IN (
        'budget_threshold', 'route_preference', 'cost_anomaly', 'rate_limit', 'token_limit', 'model_allowlist'
    )
    UNION ALL
    SELECT 'stg_decisions.mode', mode
    FROM staging.stg_decisions
    WHERE mode NOT IN ('enforce', 'shadow')
    UNION ALL
    SELECT 'stg_decisions.state', state
    FROM staging.stg_decisions
    WHERE state NOT IN ('fresh', 'degraded')
    UNION ALL
    SELECT 'stg_requests.status', status
    FROM staging.stg_requests
    WHERE status NOT IN ('success', 'error', 'timeout', 'cancelled', 'unknown')
    UNION ALL
    SELECT 'raw.telemetry.event', event
    FROM raw.telemetry
    WHERE event NOT IN ('request', 'outcome')
    UNION ALL
    SELECT 'raw.policy_decisions.event', event
    FROM raw.policy_decisions
    WHERE event NOT IN (
        'decision', 'policy_loaded', 'policy_refused', 'budget_alert', 'reservation_extended'
    )
)

SELECT column_name, value, count(*) AS row_count
FROM found
GROUP BY column_name, value
ORDER BY column_name, value
