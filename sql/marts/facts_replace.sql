-- Build all facts, laid out in the order of time.
CREATE OR REPLACE TABLE marts.fct_requests AS
SELECT * FROM temp.fact_rows ORDER BY timestamp, request_id;

DELETE FROM ops.changed_requests;
DELETE FROM ops.changed_facts;
DELETE FROM ops.fact_days;
