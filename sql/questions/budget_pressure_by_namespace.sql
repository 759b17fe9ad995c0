-- Which budget namespaces are triggering downgrades or denials? One row per charged namespace, over
-- decisions, most downgrades and denials first. Decisions of a gate that runs wholly in shadow were not
-- applied: they count as allowed, and their denials as shadow denials.
-- param since: only decisions from this instant on, TIMESTAMPTZ, null for all
WITH decisions AS (
    SELECT
        charged_namespace AS budget_namespace,
        if(mode = 'shadow', 'allow', decision) AS decision,
        if(mode = 'shadow', NULL, policy_id) AS policy_id,
        coalesce(requested_estimated_cost_usd, estimated_cost_usd) AS requested_usd,
        requested_estimated_cost_usd - estimated_cost_usd AS saving_usd,
        CAST(coalesce(window_cost_usd, 0) + coalesce(window_reserved_usd, 0) AS DOUBLE)
        / CAST(nullif(window_limit_usd, 0) AS DOUBLE) AS utilisation,
        is_shadow_deny
    FROM marts.fct_requests
    WHERE
        fct_requests.decided_at IS NOT NULL
        AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.decided_at >= CAST($since AS TIMESTAMPTZ))
),

acting_policies AS (
    SELECT
        budget_namespace,
        policy_id,
        row_number() OVER (PARTITION BY budget_namespace ORDER BY count(*) DESC, policy_id) AS place
    FROM decisions
    WHERE decision IN ('downgrade', 'deny') AND policy_id IS NOT NULL
    GROUP BY budget_namespace, policy_id
),

pressure AS (
    SELECT
        budget_namespace,
        count(*) FILTER (WHERE decision = 'allow') AS allow_count,
        count(*) FILTER (WHERE decision = 'downgrade') AS downgrade_count,
        count(*) FILTER (WHERE decision = 'deny') AS deny_count,
        count(*) AS total_count,
        max(utilisation) AS peak_utilisation,
        coalesce(sum(requested_usd) FILTER (WHERE decision = 'deny'), 0) AS avoided_cost_usd,
        coalesce(sum(saving_usd) FILTER (WHERE decision = 'downgrade'), 0) AS downgrade_savings_usd,
        count(*) FILTER (WHERE is_shadow_deny) AS shadow_deny_count
    FROM decisions
    GROUP BY budget_namespace
)

SELECT
    pressure.budget_namespace,
    pressure.allow_count,
    pressure.downgrade_count,
    pressure.deny_count,
    pressure.total_count,
    pressure.peak_utilisation,
    acting_policies.policy_id AS top_policy_id,
    CAST(pressure.avoided_cost_usd AS DECIMAL(38, 9)) AS avoided_cost_usd,
    CAST(pressure.downgrade_savings_usd AS DECIMAL(38, 9)) AS downgrade_savings_usd,
    pressure.shadow_deny_count
FROM pressure
LEFT JOIN acting_policies
    ON pressure.budget_namespace = acting_policies.budget_namespace AND acting_policies.place = 1
ORDER BY
    pressure.downgrade_count + pressure.deny_count DESC, pressure.total_count DESC, pressure.budget_namespace;
