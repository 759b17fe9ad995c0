-- Note from which offsets the facts were built: those of staging as it stands.
CREATE OR REPLACE TABLE ops.fact_sources AS SELECT * FROM ops.staged_sources
