-- Join what is staged of the requests in `facts_to_join`.
CREATE OR REPLACE TEMP TABLE request_rows AS
SELECT rowid AS staged_rowid
FROM staging.stg_requests
WHERE request_id IN (SELECT request_id FROM temp.facts_to_join);

CREATE OR REPLACE TEMP TABLE decision_rows AS
SELECT rowid AS staged_rowid
FROM staging.stg_decisions
WHERE request_id IN (SELECT request_id FROM temp.facts_to_join);

CREATE OR REPLACE TEMP VIEW requests_to_join AS
SELECT * FROM staging.stg_requests WHERE rowid IN (SELECT staged_rowid FROM temp.request_rows);

CREATE OR REPLACE TEMP VIEW decisions_to_join AS
SELECT * FROM staging.stg_decisions WHERE rowid IN (SELECT staged_rowid FROM temp.decision_rows);
