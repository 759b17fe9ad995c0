-- Note the lines of one file from an offset on, with the identity of their request.
-- param file_id: the file
-- param from_offset: its first byte that has not been staged
INSERT INTO temp.lines_to_stage
SELECT
    lines.rowid,
    coalesce(
        nullif(lines.request_id, ''),
        concat('line:', left(files.fingerprint, 32), ':', lines.line_offset)
    )
FROM raw.telemetry AS lines
JOIN raw.ingest_files AS files USING (file_id)
WHERE lines.file_id = $file_id AND lines.line_offset >= $from_offset
