-- Spend as the facts hold it, per charged namespace and hour.
-- param file_ids: the files of both logs that were counted again, LIST of BIGINT
SELECT
    charged_namespace,
    epoch_us(fct_requests.timestamp) // 3600000000 * 3600000000 AS hour_us,
    count(*) AS request_count,
    count(*) FILTER (WHERE cost_usd IS NULL) AS unknown_count,
    coalesce(sum(cost_usd), 0) AS spent_usd
FROM marts.fct_requests
WHERE
    has_telemetry
    AND list_contains($file_ids, telemetry_file_id)
    AND coalesce(list_contains($file_ids, decision_file_id), true)
GROUP BY ALL
ORDER BY ALL
