-- Which tenant or feature burns the most margin per request? One row per tenant and feature, largest
-- total cost first. Margins are taken over the requests whose revenue and cost are both known.
-- param since: only requests from this instant on, TIMESTAMPTZ, null for all
WITH requests AS (
    SELECT *
    FROM marts.fct_requests
    WHERE
        fct_requests.has_telemetry
        AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.timestamp >= CAST($since AS TIMESTAMPTZ))
),

totals AS (
    SELECT
        tenant_id,
        feature_id,
        coalesce(sum(cost_usd), 0) AS total_cost_usd,
        count(*) AS request_count,
        count(cost_usd) AS priced_count,
        sum(revenue_usd) AS revenue_usd,
        sum(margin_usd) AS margin_usd,
        count(margin_usd) AS margin_count,
        coalesce(sum(cost_usd) FILTER (WHERE NOT is_success), 0) AS error_cost_usd
    FROM requests
    GROUP BY tenant_id, feature_id
),

ranked AS (
    SELECT
        *,
        sum(total_cost_usd) OVER () AS all_cost_usd,
        sum(total_cost_usd) OVER (
            ORDER BY total_cost_usd DESC, tenant_id, feature_id NULLS LAST
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS cumulative_cost_usd
    FROM totals
)

SELECT
    tenant_id,
    feature_id,
    CAST(total_cost_usd AS DECIMAL(38, 9)) AS total_cost_usd,
    CAST(total_cost_usd AS DOUBLE) / nullif(priced_count, 0) AS avg_cost_usd,
    request_count,
    priced_count,
    request_count - priced_count AS unpriced_count,
    CAST(revenue_usd AS DECIMAL(38, 9)) AS revenue_usd,
    CAST(margin_usd AS DECIMAL(38, 9)) AS margin_usd,
    CAST(margin_usd AS DOUBLE) / nullif(margin_count, 0) AS margin_per_request_usd,
    CAST(error_cost_usd AS DECIMAL(38, 9)) AS error_cost_usd,
    CAST(total_cost_usd AS DOUBLE) / CAST(nullif(all_cost_usd, 0) AS DOUBLE) AS cost_share,
    CAST(cumulative_cost_usd AS DOUBLE) / CAST(nullif(all_cost_usd, 0) AS DOUBLE) AS cumulative_cost_share
FROM ranked
ORDER BY ranked.total_cost_usd DESC, tenant_id, feature_id NULLS LAST;
