-- Spend as staging holds it, per charged namespace and hour: bills joined with the decision that charged them.
-- param file_ids: the telemetry files that are on disk and can be counted again, LIST of BIGINT
SELECT
    coalesce(
        stg_decisions.charged_namespace, stg_decisions.budget_namespace, stg_requests.budget_namespace, 'default'
    ) AS charged_namespace,
    date_trunc('hour', stg_requests.timestamp) AS hour,
    count(*) AS request_count,
    count(*) FILTER (WHERE stg_requests.cost_usd IS NULL) AS unknown_count,
    coalesce(sum(stg_requests.cost_usd), 0) AS spent_usd
FROM staging.stg_requests
LEFT JOIN staging.stg_decisions USING (request_id)
WHERE list_contains($file_ids, stg_requests.file_id)
GROUP BY ALL
ORDER BY ALL
