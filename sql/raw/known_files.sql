-- Every log file that has been read from, with how far.
SELECT
    file_id, log, path, fingerprint, fingerprint_length, ingested_bytes, overlap,
    row_count, reject_count, blank_count, compressed_identity, problem
FROM raw.ingest_files
ORDER BY file_id;
