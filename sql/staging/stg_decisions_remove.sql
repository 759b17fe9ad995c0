-- Take away the requests that are about to be staged again, and what a file said under its old identity.
-- param file_ids: files whose fingerprint has grown since they were staged, LIST of BIGINT
INSERT INTO ops.changed_requests
SELECT request_id FROM staging.stg_decisions WHERE list_contains(CAST($file_ids AS BIGINT[]), file_id);
DELETE FROM staging.stg_decisions
WHERE
    list_contains(CAST($file_ids AS BIGINT[]), file_id)
    OR request_id IN (SELECT request_id FROM temp.lines_to_stage);
