-- The days of marts.fct_requests, each with a digest of its rows: a day whose count and digest stand is
-- not written again. Sums of row hashes do not depend on the order of rows, nor cancel like an xor.
SELECT
    strftime(fct_requests.timestamp, '%Y-%m-%d') AS day,
    count(*) AS row_count,
    CAST(sum(hash(fct_requests)) AS VARCHAR) AS digest
FROM marts.fct_requests
GROUP BY day
ORDER BY day
