-- The logs' own "now": the latest instant that either log tells of. Null while both are empty. Facts
-- depend on this and never on the clock, so that a rebuild is identical.
SELECT max(told.instant) AS as_of
FROM (
    SELECT max(stg_requests.timestamp) AS instant FROM staging.stg_requests
    UNION ALL
    SELECT max(stg_decisions.timestamp) AS instant FROM staging.stg_decisions
) AS told;
