-- Keep the first decisions, as they are now, of some requests (`recounted_changes`).
DELETE FROM ops.recounted_charges WHERE request_id IN (SELECT request_id FROM recounted_changes);
INSERT INTO ops.recounted_charges BY NAME SELECT * FROM recounted_changes
