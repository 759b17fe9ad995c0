-- Record how far a known log file has now been taken, and where it was seen last.
-- param file_id: its id
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
UPDATE raw.ingest_files
SET
    path = $path,
    fingerprint = $fingerprint,
    fingerprint_length = $fingerprint_length,
    ingested_bytes = $ingested_bytes,
    overlap = CAST($overlap AS BLOB),
    row_count = $row_count,
    reject_count = $reject_count,
    blank_count = $blank_count,
    compressed_identity = $compressed_identity,
    problem = $problem
WHERE file_id = $file_id;
