-- Record a log file that was met for the first time.
-- param file_id: its id
-- param log: telemetry or decisions
-- param path: where it was seen
-- param fingerprint: SHA-256 (hex) of its first bytes
-- param fingerprint_length: how many bytes that covers
-- param ingested_bytes: how far it has been taken
-- param overlap: the last bytes taken
-- param row_count: rows taken from it
-- param reject_count: lines rejected
-- param blank_count: blank lines
-- param compressed_identity: device, inode, size and time of a gzip file read to its end, else null
-- param problem: why it could not be read on, else null
INSERT INTO raw.ingest_files BY NAME
SELECT
    $file_id AS file_id,
    $log AS log,
    $path AS path,
    $fingerprint AS fingerprint,
    $fingerprint_length AS fingerprint_length,
    $ingested_bytes AS ingested_bytes,
    CAST($overlap AS BLOB) AS overlap,
    $row_count AS row_count,
    $reject_count AS reject_count,
    $blank_count AS blank_count,
    $compressed_identity AS compressed_identity,
    $problem AS problem;
