-- The files with lines that have not been staged, from which byte on, and whether their fingerprint has grown
-- since, which asks for all their lines again.
-- param log: telemetry or decisions
SELECT
    files.file_id,
    if(staged.fingerprint = files.fingerprint, staged.staged_bytes, 0) AS from_offset,
    staged.fingerprint != files.fingerprint AS is_renamed
FROM raw.ingest_files AS files
LEFT JOIN ops.staged_files AS staged USING (file_id)
WHERE
    files.log = $log
    AND (staged.file_id IS NULL OR staged.staged_bytes < files.ingested_bytes OR is_renamed)
ORDER BY files.file_id
