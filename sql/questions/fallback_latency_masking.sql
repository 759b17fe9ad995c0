-- Which fallbacks or routing choices are masking latency? One row per route and kind of answer (first
-- choice or fallback), over requests with a known latency, slowest p95 first.
-- A fallback request is masked when the attempt that won was as quick as the route's first choice is
-- (within its p95) while the caller waited longer than that. One request in twenty lies beyond a p95
-- anyway, so a route masks when its share of masked fallbacks is above 0.05.
-- A latency beyond 10^21 ms is no latency.
-- param since: only requests from this instant on, TIMESTAMPTZ, null for all
WITH requests AS (
    SELECT
        route_name,
        coalesce(is_fallback, FALSE) AS is_fallback,
        latency_ms,
        winning_attempt_ms,
        -- Decimals, so that a sum does not depend on the order of addition.
        TRY_CAST(latency_ms AS DECIMAL(28, 6)) AS exact_latency_ms,
        TRY_CAST(winning_attempt_ms AS DECIMAL(28, 6)) AS exact_winning_ms
    FROM marts.fct_requests
    WHERE
        fct_requests.has_telemetry
        AND TRY_CAST(fct_requests.latency_ms AS DECIMAL(28, 6)) IS NOT NULL
        AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.timestamp >= CAST($since AS TIMESTAMPTZ))
),

first_choice AS (
    SELECT route_name, quantile_cont(latency_ms, 0.95) AS p95_latency_ms
    FROM requests
    WHERE NOT is_fallback
    GROUP BY route_name
),

compared AS (
    SELECT
        requests.*,
        -- Null where the attempts were not recorded or the route has no first choice to compare with.
        requests.winning_attempt_ms <= first_choice.p95_latency_ms
        AND requests.latency_ms > first_choice.p95_latency_ms AS is_masked
    FROM requests
    LEFT JOIN first_choice ON requests.route_name IS NOT DISTINCT FROM first_choice.route_name
),

latencies AS (
    SELECT
        route_name,
        is_fallback,
        quantile_cont(latency_ms, 0.95) AS p95_latency_ms,
        CAST(sum(exact_latency_ms) AS DOUBLE) / count(*) AS avg_latency_ms,
        count(*) AS request_count,
        quantile_cont(winning_attempt_ms, 0.95) AS winning_attempt_p95_ms,
        CAST(sum(exact_latency_ms - exact_winning_ms) AS DOUBLE) / nullif(count(exact_winning_ms), 0) AS masked_latency_ms,
        CAST(count(*) FILTER (WHERE is_masked AND winning_attempt_ms IS NOT NULL) AS DOUBLE)
        / nullif(count(is_masked) FILTER (WHERE winning_attempt_ms IS NOT NULL), 0) AS masked_share
    FROM compared
    GROUP BY route_name, is_fallback
)

SELECT
    route_name,
    is_fallback,
    p95_latency_ms,
    avg_latency_ms,
    request_count,
    winning_attempt_p95_ms,
    if(is_fallback, masked_latency_ms, NULL) AS masked_latency_ms,
    if(is_fallback, masked_share, NULL) AS masked_share,
    CASE
        WHEN NOT is_fallback THEN 'not_masking'
        WHEN masked_share IS NULL THEN 'unknown'
        WHEN masked_share > 0.05 THEN 'masking'
        ELSE 'not_masking'
    END AS verdict
FROM latencies
ORDER BY latencies.p95_latency_ms DESC, route_name NULLS LAST, is_fallback DESC;
