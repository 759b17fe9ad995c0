-- The bills that count of some requests (`recounted_ids`).
SELECT request_id, timestamp_us, file_id, line_offset, cost_nano, namespace
FROM ops.recounted_bills
SEMI JOIN recounted_ids USING (request_id)
