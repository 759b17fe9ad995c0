-- The logs as read: one row a valid line, one reject a malformed one, and how far each file has been read.

-- One row of `turn` is updated first thing in every ingest, so that two ingests in one transaction's
-- sight conflict at once instead of reading the same bytes.
CREATE TABLE IF NOT EXISTS raw.ingest_turn (turn BIGINT NOT NULL);
INSERT INTO raw.ingest_turn SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM raw.ingest_turn);

CREATE TABLE IF NOT EXISTS raw.ingest_files (
    file_id BIGINT PRIMARY KEY,
    log VARCHAR NOT NULL,                   -- telemetry | decisions
    path VARCHAR NOT NULL,                  -- where it was seen last
    fingerprint VARCHAR NOT NULL,           -- SHA-256 (hex) of the first fingerprint_length decompressed bytes
    fingerprint_length BIGINT NOT NULL,
    ingested_bytes BIGINT NOT NULL,         -- decompressed bytes taken; the next line begins here
    overlap BLOB NOT NULL,                  -- the last bytes taken: other bytes there mean another file
    row_count BIGINT NOT NULL,
    reject_count BIGINT NOT NULL,
    blank_count BIGINT NOT NULL,
    compressed_identity VARCHAR,            -- device:inode:size:mtime of a gzip file that is read to its end
    problem VARCHAR                         -- why the rest could not be read, null when it could
);

CREATE TABLE IF NOT EXISTS raw.rejected_lines (
    file_id BIGINT NOT NULL,
    log VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    line_offset BIGINT NOT NULL,
    line_bytes BIGINT NOT NULL,             -- length of the whole line without its newline
    reason VARCHAR NOT NULL,
    detail VARCHAR NOT NULL,
    line_head BLOB NOT NULL                 -- its first 4 KiB
);

CREATE TABLE IF NOT EXISTS raw.telemetry (
    file_id BIGINT NOT NULL,
    line_offset BIGINT NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL,
    event VARCHAR,
    schema_version VARCHAR,
    request_id VARCHAR,
    tenant_id VARCHAR,
    caller_id VARCHAR,
    use_case VARCHAR,
    feature_id VARCHAR,
    experiment_id VARCHAR,
    budget_namespace VARCHAR,
    route VARCHAR,
    route_name VARCHAR,
    provider_requested VARCHAR,
    provider_selected VARCHAR,
    model_selected VARCHAR,
    provider VARCHAR,
    model VARCHAR,
    selected_model VARCHAR,
    model_tier VARCHAR,
    tokens_in BIGINT,
    tokens_out BIGINT,
    tokens STRUCT(input BIGINT, output BIGINT),
    estimated_cost_usd DOUBLE,              -- as written; staging makes money of it
    cost_usd DOUBLE,
    cost_source VARCHAR,
    latency_ms DOUBLE,
    status VARCHAR,
    success BOOLEAN,
    error_type VARCHAR,
    finish_reason VARCHAR,
    is_fallback BOOLEAN,
    fallback_triggered BOOLEAN,
    fallback_reason VARCHAR,
    retry_count DOUBLE,
    cache_hit BOOLEAN,
    price_version VARCHAR,
    cache_read_tokens DOUBLE,               -- as written; staging keeps what can be a part of the input
    cache_write_tokens DOUBLE,
    circuit_state VARCHAR,
    circuit_breaker_state VARCHAR,          -- the same in the monitor dialect
    attempts STRUCT(
        provider VARCHAR, model VARCHAR, latency_ms DOUBLE, status VARCHAR, error_type VARCHAR
    )[],
    audit_tags STRUCT(
        tenant_id VARCHAR, caller_id VARCHAR, use_case VARCHAR,
        feature_id VARCHAR, experiment_id VARCHAR, budget_namespace VARCHAR
    ),
    metadata STRUCT(
        tenant_id VARCHAR, caller_id VARCHAR, use_case VARCHAR,
        feature_id VARCHAR, experiment_id VARCHAR, budget_namespace VARCHAR
    )
);

CREATE TABLE IF NOT EXISTS raw.policy_decisions (
    file_id BIGINT NOT NULL,
    line_offset BIGINT NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL,
    reservation_expires_at TIMESTAMPTZ,
    event VARCHAR,
    schema_version VARCHAR,
    request_id VARCHAR,
    tenant_id VARCHAR,
    caller_id VARCHAR,
    use_case VARCHAR,
    feature_id VARCHAR,
    experiment_id VARCHAR,
    budget_namespace VARCHAR,
    charged_namespace VARCHAR,
    route_name VARCHAR,
    model VARCHAR,
    requested_model_tier VARCHAR,
    effective_model_tier VARCHAR,
    primitive VARCHAR,
    decision VARCHAR,
    reason VARCHAR,
    policy_id VARCHAR,
    mode VARCHAR,
    state VARCHAR,
    state_reason VARCHAR,
    estimated_cost_usd DOUBLE,
    requested_estimated_cost_usd DOUBLE,
    reserved_cost_usd DOUBLE,
    estimated_tokens_in DOUBLE,
    reserved_tokens DOUBLE,
    latency_ms DOUBLE,
    window_cost_usd DOUBLE,
    window_reserved_usd DOUBLE,
    window_limit_usd DOUBLE,
    window_start VARCHAR,
    policy_version VARCHAR,
    policy_hash VARCHAR,
    price_version VARCHAR,
    telemetry_position STRUCT(fingerprint VARCHAR, "offset" DOUBLE),
    rules STRUCT(
        policy_id VARCHAR, primitive VARCHAR, mode VARCHAR, outcome VARCHAR, reason VARCHAR,
        scope MAP(VARCHAR, VARCHAR), tier VARCHAR,
        spent_usd DOUBLE, reserved_usd DOUBLE, reservation_usd DOUBLE, limit_usd DOUBLE,
        window_start VARCHAR, baseline_usd DOUBLE, threshold_usd DOUBLE, samples DOUBLE
    )[],
    -- Of policy_loaded, policy_refused and budget_alert events.
    policy_text VARCHAR,
    error VARCHAR,
    scope MAP(VARCHAR, VARCHAR),
    threshold DOUBLE
);
