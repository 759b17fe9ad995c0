-- Request ids that more than one telemetry line carries, and how many lines that is too many.
SELECT
    count(*) AS id_count,
    coalesce(CAST(sum(duplicate_count) AS BIGINT), 0) AS extra_line_count,
    coalesce(list(request_id ORDER BY request_id)[:10], []) AS examples
FROM staging.stg_requests
WHERE duplicate_count > 0
