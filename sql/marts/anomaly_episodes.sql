-- The episodes that the moments above make: one opens at the first such moment and lasts until fifteen
-- minutes passed without another.
CREATE OR REPLACE TEMP TABLE anomaly_episodes AS
WITH aboves AS (
    SELECT
        *,
        coalesce(
            timestamp >= lag(timestamp) OVER (PARTITION BY policy_id, subject ORDER BY timestamp)
            + INTERVAL 15 MINUTES,
            TRUE
        ) AS is_opening
    FROM ops.anomaly_moments
),

numbered AS (
    SELECT
        *,
        count(*) FILTER (WHERE is_opening) OVER (
            PARTITION BY policy_id, subject ORDER BY timestamp
        ) AS episode_number
    FROM aboves
),

episodes AS (
    SELECT
        policy_id,
        subject,
        any_value(feature_id) AS feature_id,
        episode_number,
        min(timestamp) AS opened_at,
        max(timestamp) AS last_above_at,
        arg_min(baseline_usd, timestamp) AS baseline_usd,
        arg_min(source, timestamp) AS source
    FROM numbered
    GROUP BY policy_id, subject, episode_number
)

SELECT * EXCLUDE (episode_number) FROM episodes
