-- All requests of the log, and those of them that no provider was asked about.
-- param since: the first instant, TIMESTAMPTZ, null for all time
SELECT
    count(*) AS request_count,
    coalesce(sum(stg_requests.cost_usd), 0) AS total_cost_usd,
    count(*) FILTER (
        coalesce(telemetry.cache_hit, FALSE) OR stg_requests.cost_source IS NOT DISTINCT FROM 'cached_zero'
    ) AS cache_hit_count
FROM staging.stg_requests
INNER JOIN raw.telemetry
    ON stg_requests.file_id = telemetry.file_id AND stg_requests.line_offset = telemetry.line_offset
WHERE (CAST($since AS TIMESTAMPTZ) IS NULL OR stg_requests.timestamp >= $since)
