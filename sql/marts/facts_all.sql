-- Join everything that is staged.
CREATE OR REPLACE TEMP VIEW requests_to_join AS SELECT * FROM staging.stg_requests;
CREATE OR REPLACE TEMP VIEW decisions_to_join AS SELECT * FROM staging.stg_decisions;
