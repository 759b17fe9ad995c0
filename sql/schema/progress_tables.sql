-- How far each derived table has been brought up to date, so that a refresh costs what is new. All of it can
-- be deleted: the tables are then built from the start, with the same rows.

-- The statements and the configuration that a table was built with. Without a row, or with another
-- definition, the table is built from the start.
CREATE TABLE IF NOT EXISTS ops.derivations (
    table_name VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,            -- SHA-256 of statements and configuration
    as_of TIMESTAMPTZ                       -- the logs' own now at the build, where the table depends on it
);

-- Up to which byte each file's lines have been staged. The fingerprint decides on identities and ties, so
-- lines of a file whose fingerprint has grown since are staged again.
CREATE TABLE IF NOT EXISTS ops.staged_files (
    log VARCHAR NOT NULL,
    file_id BIGINT NOT NULL,
    fingerprint VARCHAR NOT NULL,
    staged_bytes BIGINT NOT NULL
);

-- Requests whose staging changed and whose facts have not been joined again yet.
CREATE TABLE IF NOT EXISTS ops.changed_requests (request_id VARCHAR NOT NULL);

-- Instants of facts that changed and that neither anomalies nor publishing have looked at yet: per consumer
-- and day, the first one.
CREATE TABLE IF NOT EXISTS ops.changed_facts (
    consumer VARCHAR NOT NULL,              -- anomalies | publishing
    day DATE NOT NULL,                      -- in UTC
    earliest TIMESTAMPTZ NOT NULL
);

-- Rows and digest of each day of marts.fct_requests, as publishing compares them.
CREATE TABLE IF NOT EXISTS ops.fact_days (
    day DATE NOT NULL,
    row_count BIGINT NOT NULL,
    digest VARCHAR NOT NULL
);

-- Known costs of successful requests per feature and hour: what anomaly baselines are made of.
CREATE TABLE IF NOT EXISTS ops.cost_hours (
    feature_id VARCHAR,
    hour TIMESTAMPTZ NOT NULL,
    request_count BIGINT NOT NULL,
    cost_usd DECIMAL(38, 9) NOT NULL
);

-- The moments at which the five minutes before were above what is usual: what episodes are made of.
CREATE TABLE IF NOT EXISTS ops.anomaly_moments (
    policy_id VARCHAR NOT NULL,
    subject VARCHAR NOT NULL,
    feature_id VARCHAR,
    timestamp TIMESTAMPTZ NOT NULL,
    baseline_usd DOUBLE NOT NULL,
    source VARCHAR NOT NULL
);

-- What the logs came to when they were counted again from their bytes (`governance_pipeline.recount_state`), and
-- how far each file was counted: of `lines` its lines, of `spend` the bills and decisions below.
CREATE TABLE IF NOT EXISTS ops.recounted_files (
    counted VARCHAR NOT NULL,               -- lines | spend
    file_id BIGINT NOT NULL,
    fingerprint VARCHAR NOT NULL,
    counted_bytes BIGINT NOT NULL,
    filled BIGINT NOT NULL,
    blank BIGINT NOT NULL
);

-- The bill that counts of each request, and its first decision.
CREATE TABLE IF NOT EXISTS ops.recounted_bills (
    request_id VARCHAR NOT NULL,
    timestamp_us BIGINT NOT NULL,           -- microseconds since 1970
    file_id BIGINT NOT NULL,
    line_offset BIGINT NOT NULL,
    cost_nano BIGINT,                       -- null: unknown
    namespace VARCHAR                       -- as the line says
);

CREATE TABLE IF NOT EXISTS ops.recounted_charges (
    request_id VARCHAR NOT NULL,
    timestamp_us BIGINT NOT NULL,
    file_id BIGINT NOT NULL,
    line_offset BIGINT NOT NULL,
    namespace VARCHAR                       -- that was charged, else the one named
);

-- What they add up to per charged namespace and hour.
CREATE TABLE IF NOT EXISTS ops.recounted_spend (
    namespace VARCHAR NOT NULL,
    hour_us BIGINT NOT NULL,                -- its beginning, in microseconds since 1970
    requests BIGINT NOT NULL,
    unknown BIGINT NOT NULL,
    nano DECIMAL(38, 0) NOT NULL            -- nano-USD
);
