-- The earliest opening of the episodes that reach to an instant or beyond; null when there is none.
-- param since: that instant, TIMESTAMPTZ, null for all
SELECT min(opened_at)
FROM temp.anomaly_episodes
WHERE CAST($since AS TIMESTAMPTZ) IS NULL OR last_above_at >= CAST($since AS TIMESTAMPTZ)
