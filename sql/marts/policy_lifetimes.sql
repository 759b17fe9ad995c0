-- How long a reservation lives by each policy that was loaded.
-- param hashes: of the policies, LIST of VARCHAR
-- param instants: when each was loaded, LIST of TIMESTAMPTZ
-- param seconds: how long its reservations live, LIST of DOUBLE
CREATE OR REPLACE TEMP TABLE policy_lifetimes AS
SELECT
    unnest(CAST($hashes AS VARCHAR[])) AS policy_hash,
    unnest(CAST($instants AS TIMESTAMPTZ[])) AS loaded_at,
    unnest(CAST($seconds AS DOUBLE[])) AS lifetime_seconds
