-- The instant that "now" means for reservations.
-- param as_of: that instant, TIMESTAMPTZ, null while both logs are empty
CREATE OR REPLACE TEMP TABLE fact_clock AS SELECT CAST($as_of AS TIMESTAMPTZ) AS as_of
