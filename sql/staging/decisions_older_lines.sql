-- Note the lines staged before that carry the identity of a line that is new.
INSERT INTO temp.lines_to_stage
SELECT lines.rowid, new_lines.request_id
FROM raw.policy_decisions AS lines
JOIN raw.ingest_files AS files USING (file_id)
JOIN (SELECT DISTINCT request_id FROM temp.lines_to_stage) AS new_lines
    ON new_lines.request_id = coalesce(
        nullif(lines.request_id, ''),
        concat('line:', left(files.fingerprint, 32), ':', lines.line_offset)
    )
WHERE lines.rowid NOT IN (SELECT line_rowid FROM temp.lines_to_stage)
