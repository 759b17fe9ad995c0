-- What the price of a request depends on besides its tokens.
-- param since: the first instant, TIMESTAMPTZ, null for all time
SELECT DISTINCT fct_requests.model, fct_requests.provider, CAST(fct_requests.timestamp AS DATE) AS day
FROM marts.fct_requests
WHERE
    fct_requests.has_telemetry
    AND fct_requests.model IS NOT NULL
    AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.timestamp >= $since)
ORDER BY ALL
