-- Where the verdicts on experiments stand for the length of a session.
CREATE OR REPLACE TEMP TABLE experiment_verdicts (
    experiment_id VARCHAR NOT NULL,
    cost_delta_pct DOUBLE,
    success_delta DOUBLE,
    p_value_cost DOUBLE,
    p_value_success DOUBLE,
    verdict VARCHAR NOT NULL
);
