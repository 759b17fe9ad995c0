-- Every line of the log has been staged.
-- param log: telemetry or decisions
DELETE FROM ops.staged_files WHERE staged_files.log = $log;
INSERT INTO ops.staged_files
SELECT log, file_id, fingerprint, ingested_bytes FROM raw.ingest_files WHERE ingest_files.log = $log;
