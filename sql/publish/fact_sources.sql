-- From which offsets the facts were built.
SELECT log, path, fingerprint, fingerprint_length, ingested_bytes, overlap, compressed_identity
FROM ops.fact_sources
ORDER BY log, path, ingested_bytes
