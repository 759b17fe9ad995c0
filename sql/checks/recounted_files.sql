-- How far each file has been counted again.
-- param counted: lines or spend
SELECT file_id, fingerprint, counted_bytes, filled, blank
FROM ops.recounted_files
WHERE recounted_files.counted = $counted
