-- Bring the costs per feature and hour up to date from an hour on.
-- param since: an instant in the first hour that changed, TIMESTAMPTZ, null for all
DELETE FROM ops.cost_hours
WHERE CAST($since AS TIMESTAMPTZ) IS NULL OR hour >= date_trunc('hour', CAST($since AS TIMESTAMPTZ));

INSERT INTO ops.cost_hours
SELECT
    feature_id,
    date_trunc('hour', fct_requests.timestamp) AS hour,
    count(*) AS request_count,
    sum(cost_usd) AS cost_usd
FROM marts.fct_requests
WHERE
    has_telemetry
    AND is_success
    AND cost_usd IS NOT NULL
    AND fct_requests.timestamp
    >= coalesce(date_trunc('hour', CAST($since AS TIMESTAMPTZ)), TIMESTAMPTZ '0001-01-01')
GROUP BY feature_id, date_trunc('hour', fct_requests.timestamp);
