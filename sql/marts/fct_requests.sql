-- One row per request: its decision and its telemetry, joined on the request id, with the standing and
-- the pot of its money by the rules of policy_runtime/settlement.py, and what it earned.
-- Of the revenue rules whose keys are all the request's own, the one with most keys counts; among those
-- with equally many, tenant before feature before route. Revenue is earned on success only.
-- A decision that names no expiry lapses by the policy that it names (`policy_lifetimes`), naming none by the one
-- loaded last before it, and after 900 seconds, the gate's default, where the log does not tell of that policy.
-- Reads the requests and decisions that `requests_to_join` and `decisions_to_join` show (all, or all there is
-- of some ids), and the instant that "now" means for reservations from `fact_clock`.
CREATE OR REPLACE TEMP VIEW fact_rows AS
WITH extensions AS (
    -- The last extension of each reservation; one that was over when it was written extends nothing.
    SELECT
        request_id,
        arg_max(reservation_expires_at, (timestamp, file_id, line_offset)) AS reservation_expires_at
    FROM raw.policy_decisions
    WHERE event = 'reservation_extended' AND reservation_expires_at > timestamp
    GROUP BY request_id
),

lifetimes AS (
    SELECT
        decisions.request_id,
        coalesce(
            if(decisions.policy_hash IS NULL, in_force.lifetime_seconds, named.lifetime_seconds), 900
        ) AS seconds
    FROM temp.decisions_to_join AS decisions
    LEFT JOIN (
        SELECT policy_hash, any_value(lifetime_seconds) AS lifetime_seconds
        FROM temp.policy_lifetimes
        GROUP BY policy_hash
    ) AS named ON decisions.policy_hash = named.policy_hash
    ASOF LEFT JOIN temp.policy_lifetimes AS in_force ON decisions.timestamp >= in_force.loaded_at
    WHERE decisions.reservation_expires_at IS NULL
),

joined AS (
    SELECT
        coalesce(r.request_id, d.request_id) AS request_id,
        coalesce(r.timestamp, d.timestamp) AS timestamp,
        r.request_id IS NOT NULL AS has_telemetry,
        coalesce(r.tenant_id, d.tenant_id, 'default') AS tenant_id,
        coalesce(r.caller_id, d.caller_id) AS caller_id,
        coalesce(r.use_case, d.use_case) AS use_case,
        coalesce(r.feature_id, d.feature_id, d.use_case) AS feature_id,
        coalesce(r.experiment_id, d.experiment_id) AS experiment_id,
        coalesce(r.budget_namespace, d.budget_namespace) AS budget_namespace,
        coalesce(d.charged_namespace, d.budget_namespace, r.budget_namespace, 'default')
            AS charged_namespace,
        coalesce(r.route_name, d.route_name) AS route_name,
        r.provider,
        coalesce(r.model, d.model) AS model,
        coalesce(r.model_tier, d.effective_model_tier) AS model_tier,
        r.tokens_in,
        r.tokens_out,
        r.cache_read_tokens,
        r.cache_write_tokens,
        r.cost_usd,
        r.latency_ms,
        r.status,
        r.is_success,
        r.finish_reason,
        r.error_type,
        r.is_fallback,
        r.fallback_reason,
        r.retry_count,
        r.attempt_count,
        r.answer_count,
        r.winning_attempt_ms,
        coalesce(r.price_version, d.price_version) AS price_version,
        r.cost_source,
        r.duplicate_count,
        r.file_id AS telemetry_file_id,
        r.line_offset AS telemetry_line_offset,
        d.file_id AS decision_file_id,
        d.line_offset AS decision_line_offset,
        d.timestamp AS decided_at,
        d.decision,
        d.reason,
        d.policy_id,
        d.primitive,
        d.mode,
        d.state AS gate_state,
        d.policy_hash,
        d.requested_model_tier,
        d.effective_model_tier,
        d.estimated_cost_usd,
        d.requested_estimated_cost_usd,
        d.reserved_cost_usd,
        CASE
            WHEN d.request_id IS NOT NULL AND d.decision IS DISTINCT FROM 'deny'
            THEN coalesce(
                extensions.reservation_expires_at,
                d.reservation_expires_at,
                d.timestamp + to_microseconds(CAST(lifetimes.seconds * 1000000 AS BIGINT))
            )
        END AS reservation_expires_at,
        d.window_cost_usd,
        d.window_reserved_usd,
        d.window_limit_usd,
        coalesce(d.mode = 'shadow' AND d.decision = 'deny', FALSE)
            OR coalesce(
                len(list_filter(d.rules, lambda rule: rule.mode = 'shadow' AND rule.outcome = 'deny')) > 0,
                FALSE
            ) AS is_shadow_deny,
        d.request_id IS NOT NULL AND d.decision IS DISTINCT FROM 'deny' AS is_admitted
    FROM temp.requests_to_join AS r
    FULL OUTER JOIN temp.decisions_to_join AS d ON r.request_id = d.request_id
    LEFT JOIN extensions ON d.request_id = extensions.request_id
    LEFT JOIN lifetimes ON d.request_id = lifetimes.request_id
),

standing AS (
    SELECT
        *,
        CASE
            WHEN NOT is_admitted THEN if(has_telemetry, 'ungoverned', 'denied')
            WHEN cost_usd IS NOT NULL THEN if(timestamp >= reservation_expires_at, 'settled_late', 'settled')
            WHEN (SELECT as_of FROM temp.fact_clock) >= reservation_expires_at THEN 'lapsed'
            ELSE if(has_telemetry, 'unknown_bill', 'reserved')
        END AS state
    FROM joined
),

attributions AS (
    SELECT DISTINCT standing.tenant_id, standing.feature_id, standing.route_name
    FROM standing
    WHERE standing.has_telemetry
),

matching_rules AS (
    SELECT
        attributions.*,
        economics_revenue.revenue_per_request_usd,
        row_number() OVER (
            PARTITION BY attributions.tenant_id, attributions.feature_id, attributions.route_name
            ORDER BY
                CAST(economics_revenue.tenant_id IS NOT NULL AS INTEGER)
                + CAST(economics_revenue.feature_id IS NOT NULL AS INTEGER)
                + CAST(economics_revenue.route_name IS NOT NULL AS INTEGER) DESC,
                economics_revenue.tenant_id IS NOT NULL DESC,
                economics_revenue.feature_id IS NOT NULL DESC,
                economics_revenue.rule_number
        ) AS preference
    FROM attributions
    INNER JOIN temp.economics_revenue
        ON (economics_revenue.tenant_id IS NULL OR economics_revenue.tenant_id = attributions.tenant_id)
        AND (economics_revenue.feature_id IS NULL OR economics_revenue.feature_id = attributions.feature_id)
        AND (economics_revenue.route_name IS NULL OR economics_revenue.route_name = attributions.route_name)
),

earnings AS (
    SELECT
        standing.*,
        CASE
            WHEN standing.is_success THEN matching_rules.revenue_per_request_usd
            WHEN matching_rules.revenue_per_request_usd IS NOT NULL THEN 0
        END AS revenue_usd
    FROM standing
    LEFT JOIN matching_rules
        ON standing.has_telemetry
        AND matching_rules.preference = 1
        AND standing.tenant_id IS NOT DISTINCT FROM matching_rules.tenant_id
        AND standing.feature_id IS NOT DISTINCT FROM matching_rules.feature_id
        AND standing.route_name IS NOT DISTINCT FROM matching_rules.route_name
)

SELECT
    earnings.* EXCLUDE (is_admitted, revenue_usd),
    CAST(coalesce(earnings.cost_usd, 0) AS DECIMAL(18, 9)) AS spent_usd,
    CAST(
        if(earnings.state IN ('reserved', 'unknown_bill'), coalesce(earnings.reserved_cost_usd, 0), 0)
        AS DECIMAL(18, 9)
    ) AS reserved_open_usd,
    CAST(if(earnings.state = 'lapsed', coalesce(earnings.reserved_cost_usd, 0), 0) AS DECIMAL(18, 9))
        AS lapsed_usd,
    CASE
        WHEN earnings.cost_usd IS NOT NULL THEN earnings.timestamp
        WHEN earnings.state = 'lapsed' THEN earnings.reservation_expires_at
    END AS counted_at,
    CAST(earnings.revenue_usd AS DECIMAL(18, 9)) AS revenue_usd,
    CAST(earnings.revenue_usd - earnings.cost_usd AS DECIMAL(18, 9)) AS margin_usd
FROM earnings
