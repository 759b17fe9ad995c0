-- Lines of the batch (`incoming_lines`) whose timestamp SQL cannot take; the gate's reader says why.
SELECT line_offset
FROM incoming_lines
WHERE event_time(timestamp_written) IS NULL
ORDER BY line_offset;
