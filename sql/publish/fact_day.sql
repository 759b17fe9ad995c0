-- One day of marts.fct_requests as a Parquet file.
-- param day: the day, YYYY-MM-DD in UTC
-- param path: the file to write
COPY (
    SELECT *
    FROM marts.fct_requests
    WHERE
        fct_requests.timestamp >= CAST(CAST($day AS DATE) AS TIMESTAMPTZ)
        AND fct_requests.timestamp < CAST(CAST($day AS DATE) + INTERVAL 1 DAY AS TIMESTAMPTZ)
    ORDER BY fct_requests.timestamp, request_id
) TO $path (FORMAT parquet, COMPRESSION zstd)
