-- Quarantine the lines that were refused (`incoming_rejects`, registered by the loader).
-- param file_id: the file they stand in
-- param log: telemetry or decisions
-- param path: where that file was
INSERT INTO raw.rejected_lines BY NAME
SELECT
    $file_id AS file_id, $log AS log, $path AS path,
    line_offset, line_bytes, reason, detail, line_head
FROM incoming_rejects;
