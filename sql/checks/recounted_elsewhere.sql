-- Of the requests that were folded, those that a file which was not has a say in: their bill and decision, as
-- they were folded.
-- param file_ids: the files that were folded, LIST of BIGINT
SELECT
    bills.timestamp_us, bills.file_id, bills.line_offset, bills.cost_nano, bills.namespace,
    charges.timestamp_us, charges.file_id, charges.line_offset, charges.namespace
FROM ops.recounted_bills AS bills
LEFT JOIN ops.recounted_charges AS charges USING (request_id)
LEFT JOIN staging.stg_requests USING (request_id)
LEFT JOIN staging.stg_decisions USING (request_id)
WHERE
    NOT list_contains($file_ids, stg_requests.file_id)
    OR NOT list_contains($file_ids, stg_decisions.file_id)
