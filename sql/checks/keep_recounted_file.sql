-- Note how far a file has now been counted again.
-- param counted: lines or spend
-- param file_id: the file
-- param fingerprint: SHA-256 (hex) of its first bytes
-- param counted_bytes: up to where
-- param filled: lines with something in them so far
-- param blank: blank lines so far
DELETE FROM ops.recounted_files
WHERE recounted_files.counted = $counted AND recounted_files.file_id = $file_id;
INSERT INTO ops.recounted_files BY NAME
SELECT
    $counted AS counted,
    $file_id AS file_id,
    $fingerprint AS fingerprint,
    $counted_bytes AS counted_bytes,
    $filled AS filled,
    $blank AS blank
