-- How far each log file has been ingested.
SELECT
    log, path, fingerprint, fingerprint_length, ingested_bytes, lower(hex(overlap)) AS overlap, compressed_identity
FROM raw.ingest_files
ORDER BY log, file_id
