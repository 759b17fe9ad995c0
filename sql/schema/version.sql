-- What layout the warehouse has: one row, the version of the package's layout and a digest of sql/schema.
CREATE TABLE IF NOT EXISTS ops.schema_version (
    version BIGINT NOT NULL,
    schema_sha256 VARCHAR NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
