-- Requests that were answered or failed, of a share of all ids that is drawn by their hash: the same each time.
-- param since: the first instant, TIMESTAMPTZ, null for all time
-- param highest_hash: the ids whose MD5 in hexadecimal is below this text
SELECT *
FROM marts.fct_requests
WHERE
    has_telemetry
    AND md5(request_id) < $highest_hash
    AND ($since IS NULL OR timestamp >= CAST($since AS TIMESTAMPTZ))
ORDER BY timestamp, request_id
