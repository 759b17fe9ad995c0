-- What the warehouse holds of each ingested file: rows, rejects and blanks, counted in the tables themselves.
WITH kept AS (
    SELECT file_id, count(*) AS row_count FROM raw.telemetry GROUP BY file_id
    UNION ALL
    SELECT file_id, count(*) AS row_count FROM raw.policy_decisions GROUP BY file_id
),

rejected AS (
    SELECT file_id, count(*) AS reject_count FROM raw.rejected_lines GROUP BY file_id
)

SELECT
    ingest_files.file_id,
    ingest_files.log,
    ingest_files.path,
    ingest_files.fingerprint,
    ingest_files.fingerprint_length,
    ingest_files.ingested_bytes,
    lower(hex(ingest_files.overlap)) AS overlap,
    coalesce(kept.row_count, 0) AS row_count,
    coalesce(rejected.reject_count, 0) AS reject_count,
    ingest_files.blank_count
FROM raw.ingest_files
LEFT JOIN kept USING (file_id)
LEFT JOIN rejected USING (file_id)
ORDER BY ingest_files.file_id
