-- Quarantined lines, the latest first.
-- param row_limit: how many at most, null for all
SELECT log, path, line_offset, line_bytes, reason, detail, line_head
FROM raw.rejected_lines
ORDER BY log, path, line_offset DESC
LIMIT (SELECT coalesce($row_limit, 9223372036854775807))
