-- Note from which offsets staging was built: what lies beyond has not reached it.
-- param log: telemetry or decisions
CREATE TABLE IF NOT EXISTS ops.staged_sources (
    log VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    fingerprint VARCHAR NOT NULL,
    fingerprint_length BIGINT NOT NULL,
    ingested_bytes BIGINT NOT NULL,
    overlap VARCHAR NOT NULL,              -- hex
    compressed_identity VARCHAR
);

DELETE FROM ops.staged_sources WHERE staged_sources.log = $log;

INSERT INTO ops.staged_sources
SELECT log, path, fingerprint, fingerprint_length, ingested_bytes, lower(hex(overlap)), compressed_identity
FROM raw.ingest_files
WHERE ingest_files.log = $log
ORDER BY file_id;
