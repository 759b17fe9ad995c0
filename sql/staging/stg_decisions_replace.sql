-- Build the whole table, laid out in the order of time.
CREATE OR REPLACE TABLE staging.stg_decisions AS
SELECT * FROM temp.staged_decisions ORDER BY timestamp, request_id
