-- Keep the bills that count now of some requests (`recounted_changes`).
DELETE FROM ops.recounted_bills WHERE request_id IN (SELECT request_id FROM recounted_changes);
INSERT INTO ops.recounted_bills BY NAME SELECT * FROM recounted_changes
