-- Have files counted again from their first bytes.
-- param counted: lines or spend
-- param file_ids: LIST of BIGINT
DELETE FROM ops.recounted_files
WHERE recounted_files.counted = $counted AND ($counted = 'spend' OR list_contains(CAST($file_ids AS BIGINT[]), file_id))
