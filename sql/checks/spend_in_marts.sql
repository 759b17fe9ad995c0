-- Spend as the facts hold it, per charged namespace and hour.
-- param file_ids: the telemetry files that are on disk and can be counted again, LIST of BIGINT
SELECT
    charged_namespace,
    date_trunc('hour', fct_requests.timestamp) AS hour,
    count(*) AS request_count,
    count(*) FILTER (WHERE cost_usd IS NULL) AS unknown_count,
    coalesce(sum(cost_usd), 0) AS spent_usd
FROM marts.fct_requests
WHERE has_telemetry AND list_contains($file_ids, telemetry_file_id)
GROUP BY ALL
ORDER BY ALL
