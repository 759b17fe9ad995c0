-- The first decisions on some requests (`recounted_ids`).
SELECT request_id, timestamp_us, file_id, line_offset, namespace
FROM ops.recounted_charges
SEMI JOIN recounted_ids USING (request_id)
