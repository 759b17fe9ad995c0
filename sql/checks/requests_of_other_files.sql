-- How many requests cannot be counted again: their bill or their decision lies in a file that was not folded.
-- param file_ids: the files of both logs that were, LIST of BIGINT
SELECT count(*)
FROM staging.stg_requests
LEFT JOIN staging.stg_decisions USING (request_id)
WHERE
    NOT list_contains($file_ids, stg_requests.file_id)
    OR NOT list_contains($file_ids, stg_decisions.file_id)
