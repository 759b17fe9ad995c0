-- How far each log file has been ingested, and the instant of its latest line.
WITH lines AS (
    SELECT file_id, max(timestamp) AS latest_line FROM raw.telemetry GROUP BY file_id
    UNION ALL
    SELECT file_id, max(timestamp) AS latest_line FROM raw.policy_decisions GROUP BY file_id
)

SELECT
    ingest_files.log,
    ingest_files.fingerprint,
    ingest_files.fingerprint_length,
    ingest_files.ingested_bytes,
    lower(hex(ingest_files.overlap)) AS overlap,
    lines.latest_line
FROM raw.ingest_files
LEFT JOIN lines USING (file_id)
ORDER BY ingest_files.file_id
