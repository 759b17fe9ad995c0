-- How many files were ingested further than they are staged, and how many requests were staged and not joined.
SELECT
    (SELECT count(*) FROM ops.changed_requests)
    + (
        SELECT count(*)
        FROM raw.ingest_files AS files
        LEFT JOIN ops.staged_files AS staged USING (file_id)
        WHERE
            staged.file_id IS NULL
            OR staged.staged_bytes < files.ingested_bytes
            OR staged.fingerprint != files.fingerprint
    ) AS waiting
