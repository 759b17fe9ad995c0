-- Build the whole table, laid out in the order of time.
CREATE OR REPLACE TABLE staging.stg_requests AS
SELECT * FROM temp.staged_requests ORDER BY timestamp, request_id
