-- Request ids whose counting line lies in a file that is no longer on disk.
-- param file_ids: the telemetry files that are on disk, LIST of BIGINT
SELECT request_id
FROM staging.stg_requests
WHERE NOT list_contains($file_ids, file_id)
