-- Lines that are dated more than 15 minutes before a line above them in the same file: further than the
-- gate's bisection allows, so that a starting gate may pass over them. Looked at line by line are only the
-- stretches of 16 KiB in which, by their earliest and latest instants and the latest above, there may be one.
WITH lines AS (
    SELECT 'telemetry' AS log, file_id, line_offset, line_offset // 16384 AS stretch, timestamp FROM raw.telemetry
    UNION ALL
    SELECT 'decisions', file_id, line_offset, line_offset // 16384, timestamp FROM raw.policy_decisions
),

stretches AS (
    SELECT log, file_id, stretch, min(timestamp) AS earliest, max(timestamp) AS latest
    FROM lines
    GROUP BY ALL
),

stretches_in_order AS (
    SELECT
        *,
        max(latest) OVER (
            PARTITION BY log, file_id ORDER BY stretch
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS latest_above
    FROM stretches
),

suspects AS (
    SELECT log, file_id, stretch, latest_above
    FROM stretches_in_order
    WHERE greatest(latest_above, latest) - earliest > INTERVAL 15 MINUTE
),

compared AS (
    SELECT
        lines.log,
        lines.timestamp,
        greatest(
            suspects.latest_above,
            max(lines.timestamp) OVER (
                PARTITION BY lines.log, lines.file_id, lines.stretch ORDER BY lines.line_offset
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            )
        ) AS latest_above
    FROM lines
    INNER JOIN suspects USING (log, file_id, stretch)
)

SELECT
    log,
    count(*) AS line_count,
    max(epoch(latest_above - timestamp)) AS worst_seconds
FROM compared
WHERE latest_above - timestamp > INTERVAL 15 MINUTE
GROUP BY log
ORDER BY log
