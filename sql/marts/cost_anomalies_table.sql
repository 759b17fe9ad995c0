-- Where the episodes stand.
CREATE OR REPLACE TABLE marts.cost_anomalies (
    subject VARCHAR,
    feature_id VARCHAR,
    window_start TIMESTAMPTZ,
    window_end TIMESTAMPTZ,
    request_count BIGINT,
    avg_cost_usd DOUBLE,
    baseline_cost_usd DOUBLE,
    ratio DOUBLE,
    source VARCHAR,
    episode_id VARCHAR,
    policy_id VARCHAR
)
