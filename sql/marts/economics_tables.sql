-- Where economics.yaml stands for the length of a session: what requests earn, and registered controls.
CREATE OR REPLACE TEMP TABLE economics_revenue (
    rule_number INTEGER NOT NULL,
    tenant_id VARCHAR,
    feature_id VARCHAR,
    route_name VARCHAR,
    revenue_per_request_usd DECIMAL(18, 9) NOT NULL
);

CREATE OR REPLACE TEMP TABLE economics_experiments (
    experiment_id VARCHAR NOT NULL,
    control_id VARCHAR NOT NULL
);
