-- Episodes in which a feature costs several times what it usually does (docs/semantics.md, "Cost anomalies").
-- Requests are counted from five minutes before an episode opened to its last moment above. Episodes that
-- were over before `counted_from` keep their counts: nothing in them can have changed.
-- param as_of: the logs' own now: an episode whose fifteen minutes are not over by then is still open
-- param counted_from: when the first episode opened that is to be counted again, TIMESTAMPTZ, null for none
CREATE OR REPLACE TABLE marts.cost_anomalies AS
WITH counted AS (
    SELECT
        episodes.policy_id,
        episodes.subject,
        episodes.opened_at,
        count(*) AS request_count,
        CAST(sum(facts.cost_usd) AS DOUBLE) / count(*) AS avg_cost_usd
    FROM temp.anomaly_episodes AS episodes
    INNER JOIN marts.fct_requests AS facts
        ON episodes.subject = 'feature:' || coalesce(facts.feature_id, '(none)')
        AND facts.timestamp BETWEEN episodes.opened_at - INTERVAL 5 MINUTES AND episodes.last_above_at
    WHERE
        episodes.opened_at >= CAST($counted_from AS TIMESTAMPTZ)
        AND facts.timestamp >= CAST($counted_from AS TIMESTAMPTZ) - INTERVAL 5 MINUTES
        AND facts.has_telemetry
        AND facts.is_success
        AND facts.cost_usd IS NOT NULL
    GROUP BY episodes.policy_id, episodes.subject, episodes.opened_at
),

contents AS (
    SELECT policy_id, subject, opened_at, request_count, avg_cost_usd
    FROM counted
    UNION ALL
    SELECT policy_id, subject, window_start, request_count, avg_cost_usd
    FROM marts.cost_anomalies
    WHERE
        CAST($counted_from AS TIMESTAMPTZ) IS NULL
        OR cost_anomalies.window_start < CAST($counted_from AS TIMESTAMPTZ)
)

SELECT
    episodes.subject,
    episodes.feature_id,
    episodes.opened_at AS window_start,
    if(
        CAST($as_of AS TIMESTAMPTZ) >= episodes.last_above_at + INTERVAL 15 MINUTES,
        episodes.last_above_at,
        NULL
    ) AS window_end,
    contents.request_count,
    contents.avg_cost_usd,
    episodes.baseline_usd AS baseline_cost_usd,
    contents.avg_cost_usd / episodes.baseline_usd AS ratio,
    episodes.source,
    left(
        sha256(concat_ws('|', episodes.policy_id, episodes.subject, CAST(epoch_us(episodes.opened_at) AS VARCHAR))),
        16
    ) AS episode_id,
    episodes.policy_id
FROM temp.anomaly_episodes AS episodes
INNER JOIN contents
    ON episodes.policy_id = contents.policy_id
    AND episodes.subject = contents.subject
    AND episodes.opened_at = contents.opened_at
ORDER BY window_start, episodes.subject, episodes.policy_id;
