-- Add the requests whose lines are being staged.
INSERT INTO staging.stg_requests BY NAME
SELECT * FROM temp.staged_requests ORDER BY timestamp, request_id
