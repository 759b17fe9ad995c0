-- Add the requests whose lines are being staged.
INSERT INTO staging.stg_decisions BY NAME
SELECT * FROM temp.staged_decisions ORDER BY timestamp, request_id
