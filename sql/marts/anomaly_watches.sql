-- Where the cost_anomaly rules stand for the length of a session. A null feature watches every feature.
CREATE OR REPLACE TEMP TABLE anomaly_watches (
    policy_id VARCHAR NOT NULL,
    feature_id VARCHAR,
    threshold_multiplier DOUBLE NOT NULL,
    min_samples INTEGER NOT NULL,
    baseline_window_hours DOUBLE NOT NULL
);
