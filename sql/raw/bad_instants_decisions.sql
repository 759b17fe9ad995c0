-- Lines of the batch (`incoming_lines`) with an instant that SQL cannot take; the gate's reader says why.
SELECT line_offset
FROM incoming_lines
WHERE
    event_time(line ->> 'timestamp') IS NULL
    OR ((line ->> 'reservation_expires_at') IS NOT NULL AND event_time(line ->> 'reservation_expires_at') IS NULL)
ORDER BY line_offset;
