-- Admitted requests whose reservation expired without any telemetry line: a caller that died, or a writer
-- whose log we do not read.
SELECT
    count(*) AS request_count,
    coalesce(sum(lapsed_usd), 0) AS lapsed_usd,
    coalesce(list(request_id ORDER BY request_id)[:10], []) AS examples
FROM marts.fct_requests
WHERE fct_requests.state = 'lapsed' AND NOT has_telemetry
