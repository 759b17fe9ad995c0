-- Quarantined lines, the latest of each file first.
-- param row_limit: how many at most, null for all
SELECT log, path, line_offset, line_bytes, reason, detail, line_head
FROM raw.rejected_lines
QUALIFY $row_limit IS NULL OR row_number() OVER (ORDER BY log, path, line_offset DESC) <= $row_limit
ORDER BY log, path, line_offset DESC
