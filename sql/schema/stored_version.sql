-- The layout that this warehouse has.
SELECT version, schema_sha256 FROM ops.schema_version;
