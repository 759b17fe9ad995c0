-- Which routes or features are no longer margin-safe? One row per route (feature null) and per feature of
-- a route, worst first. Unsafe: it loses money per request, or, where no margin is known, its average
-- cost is above the threshold. A threshold that somebody asked for is held against every row.
-- param since: only requests from this instant on, TIMESTAMPTZ, null for all
-- param threshold_usd: average cost above which a row is unsafe
-- param threshold_for_all: whether the threshold also judges rows whose margin is known
WITH requests AS (
    SELECT *
    FROM marts.fct_requests
    WHERE
        fct_requests.has_telemetry
        AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.timestamp >= CAST($since AS TIMESTAMPTZ))
),

rows_of_routes AS (
    SELECT
        route_name,
        feature_id,
        grouping(feature_id) = 1 AS is_whole_route,
        sum(cost_usd) AS total_cost_usd,
        max(cost_usd) AS max_cost_usd,
        count(*) AS request_count,
        count(cost_usd) AS priced_count,
        sum(revenue_usd) AS revenue_usd,
        count(revenue_usd) AS revenue_count,
        sum(margin_usd) AS margin_usd,
        count(margin_usd) AS margin_count
    FROM requests
    GROUP BY GROUPING SETS ((route_name), (route_name, feature_id))
),

averages AS (
    SELECT
        *,
        CAST(total_cost_usd AS DOUBLE) / nullif(priced_count, 0) AS avg_cost_usd,
        CAST(revenue_usd AS DOUBLE) / nullif(revenue_count, 0) AS revenue_per_request_usd,
        CAST(margin_usd AS DOUBLE) / nullif(margin_count, 0) AS margin_per_request_usd,
        -- Exact: an average equal to the threshold is not above it.
        total_cost_usd > CAST($threshold_usd AS DECIMAL(18, 9)) * priced_count AS is_above_threshold
    FROM rows_of_routes
    WHERE is_whole_route OR feature_id IS NOT NULL
),

judged AS (
    SELECT
        *,
        CASE
            WHEN margin_usd < 0 THEN 'unsafe'
            WHEN is_above_threshold AND (margin_usd IS NULL OR $threshold_for_all) THEN 'unsafe'
            WHEN margin_usd IS NULL AND priced_count = 0 THEN 'unknown'
            ELSE 'safe'
        END AS verdict
    FROM averages
)

SELECT
    route_name,
    avg_cost_usd,
    CAST(max_cost_usd AS DOUBLE) AS max_cost_usd,
    request_count,
    priced_count,
    request_count - priced_count AS unpriced_count,
    feature_id,
    revenue_per_request_usd,
    margin_per_request_usd,
    CAST($threshold_usd AS DOUBLE) AS threshold_usd,
    verdict
FROM judged
ORDER BY
    CASE verdict WHEN 'unsafe' THEN 0 WHEN 'unknown' THEN 1 ELSE 2 END,
    margin_per_request_usd NULLS LAST,
    avg_cost_usd DESC NULLS LAST,
    route_name NULLS LAST,
    is_whole_route DESC,
    feature_id;
