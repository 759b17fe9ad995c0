-- Since when the facts changed after their days were counted last: the earliest instant (null when they did
-- not), and whether any day has been counted at all since they were built from the start.
SELECT
    (SELECT min(earliest) FROM ops.changed_facts WHERE changed_facts.consumer = 'publishing') AS since,
    EXISTS (FROM ops.fact_days) AS are_counted
