-- Spend as staging holds it, per charged namespace and hour: bills joined with the decision that charged them.
-- param file_ids: the files of both logs that were counted again, LIST of BIGINT
SELECT
    coalesce(
        stg_decisions.charged_namespace, stg_decisions.budget_namespace, stg_requests.budget_namespace, 'default'
    ) AS charged_namespace,
    epoch_us(stg_requests.timestamp) // 3600000000 * 3600000000 AS hour_us,
    count(*) AS request_count,
    count(*) FILTER (WHERE stg_requests.cost_usd IS NULL) AS unknown_count,
    coalesce(sum(stg_requests.cost_usd), 0) AS spent_usd
FROM staging.stg_requests
LEFT JOIN staging.stg_decisions USING (request_id)
WHERE
    list_contains($file_ids, stg_requests.file_id)
    AND coalesce(list_contains($file_ids, stg_decisions.file_id), true)
GROUP BY ALL
ORDER BY ALL
