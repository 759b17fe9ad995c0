-- The requests to be joined again: those whose staging changed, and the reservations that are over by now.
CREATE OR REPLACE TEMP TABLE facts_to_join AS
SELECT request_id FROM ops.changed_requests
UNION
SELECT request_id
FROM marts.fct_requests
WHERE
    fct_requests.state IN ('reserved', 'unknown_bill')
    AND fct_requests.reservation_expires_at <= (SELECT as_of FROM temp.fact_clock);
