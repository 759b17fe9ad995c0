-- Crossings of alert_at that the gate recorded, as the alert sensor reads them.
CREATE OR REPLACE TABLE ops.budget_alerts AS
SELECT
    timestamp,
    coalesce(charged_namespace, budget_namespace, 'default') AS budget_namespace,
    policy_id,
    threshold,
    CAST(to_json(scope) AS VARCHAR) AS scope,
    window_cost_usd,
    window_limit_usd,
    window_start
FROM raw.policy_decisions
WHERE event = 'budget_alert'
ORDER BY timestamp, policy_id, threshold, scope
