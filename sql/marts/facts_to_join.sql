-- The requests to be joined again: those whose staging changed, and the reservations that ran out since.
-- param before: the instant that "now" meant for the facts as they stand, TIMESTAMPTZ, null when none did
CREATE OR REPLACE TEMP TABLE facts_to_join AS
SELECT request_id FROM ops.changed_requests
UNION
SELECT request_id
FROM marts.fct_requests
WHERE
    (CAST($before AS TIMESTAMPTZ) IS NULL OR reservation_expires_at > CAST($before AS TIMESTAMPTZ))
    AND reservation_expires_at <= (SELECT as_of FROM temp.fact_clock)
    AND fct_requests.state IN ('reserved', 'unknown_bill');
