-- Lines of the batch (`incoming_lines`) with an instant that SQL cannot take; the gate's reader says why.
SELECT line_offset
FROM incoming_lines
WHERE
    event_time(line ->> 'timestamp') IS NULL
ORDER BY line_offset;
