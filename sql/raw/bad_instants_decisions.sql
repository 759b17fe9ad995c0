-- Lines of the batch (`incoming_lines`) with an instant that SQL cannot take; the gate's reader says why.
SELECT line_offset
FROM incoming_lines
WHERE event_time(timestamp_written) IS NULL
    OR (reservation_expires_at_written IS NOT NULL AND event_time(reservation_expires_at_written) IS NULL)
ORDER BY line_offset;
