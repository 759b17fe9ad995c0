-- Record the layout just created, in the same transaction as the layout itself.
-- param version: version of the layout
-- param schema_sha256: digest of the files it was created from
DELETE FROM ops.schema_version;
INSERT INTO ops.schema_version VALUES ($version, $schema_sha256, now());
