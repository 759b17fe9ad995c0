-- Lines that are dated more than 15 minutes before a line above them in the same file: further than the
-- gate's bisection allows, so that a starting gate may pass over them.
WITH lines AS (
    SELECT 'telemetry' AS log, file_id, line_offset, timestamp FROM raw.telemetry
    UNION ALL
    SELECT 'decisions' AS log, file_id, line_offset, timestamp FROM raw.policy_decisions
),

compared AS (
    SELECT
        log,
        timestamp,
        max(timestamp) OVER (
            PARTITION BY log, file_id ORDER BY line_offset
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS latest_above
    FROM lines
)

SELECT
    log,
    count(*) AS line_count,
    max(epoch(latest_above - timestamp)) AS worst_seconds
FROM compared
WHERE latest_above - timestamp > INTERVAL 15 MINUTE
GROUP BY log
ORDER BY log
