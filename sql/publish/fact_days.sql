-- The days of marts.fct_requests, each with a digest of its rows: a day whose count and digest stand is
-- not written again.
SELECT strftime(day, '%Y-%m-%d') AS day, row_count, digest FROM ops.fact_days ORDER BY day
