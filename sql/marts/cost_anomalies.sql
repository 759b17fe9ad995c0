-- Episodes in which a feature costs several times what it usually does (docs/semantics.md, "Cost anomalies").
-- Every successful request with a known cost is a moment at which the five minutes up to it are looked
-- at: at least min_samples requests with a mean above multiplier × baseline are "above". An episode opens
-- at the first such moment and lasts until fifteen minutes passed without another.
-- param as_of: the logs' own now: an episode whose fifteen minutes are not over by then is still open
CREATE OR REPLACE TABLE marts.cost_anomalies AS
WITH requests AS (
    SELECT
        watches.policy_id,
        watches.threshold_multiplier,
        watches.min_samples,
        watches.baseline_window_hours,
        facts.feature_id,
        'feature:' || coalesce(facts.feature_id, '(none)') AS subject,
        facts.timestamp,
        facts.cost_usd,
        date_trunc('hour', facts.timestamp) AS hour
    FROM marts.fct_requests AS facts
    INNER JOIN temp.anomaly_watches AS watches
        ON watches.feature_id IS NULL OR watches.feature_id = facts.feature_id
    WHERE facts.has_telemetry AND facts.is_success AND facts.cost_usd IS NOT NULL
),

hours AS (
    SELECT
        policy_id,
        subject,
        hour,
        any_value(baseline_window_hours) AS baseline_window_hours,
        CAST(sum(cost_usd) AS DOUBLE) / count(*) AS mean_usd
    FROM requests
    GROUP BY policy_id, subject, hour
),

-- The same hour of the same weekday in the eight weeks before.
seasons AS (
    SELECT
        hours.policy_id,
        hours.subject,
        hours.hour,
        median(past.mean_usd) AS median_usd,
        mad(past.mean_usd) AS mad_usd
    FROM hours
    INNER JOIN generate_series(1, 8) AS weeks_ago (n) ON TRUE
    INNER JOIN hours AS past
        ON hours.policy_id = past.policy_id
        AND hours.subject = past.subject
        AND past.hour = hours.hour - to_days(CAST(7 * weeks_ago.n AS INTEGER))
    GROUP BY hours.policy_id, hours.subject, hours.hour
    HAVING count(*) >= 4
),

-- The hours just before. Each is also compared with its own season: where the median hour lies above,
-- costs have moved to a new normal and the seasonal baseline moves with them.
recents AS (
    SELECT
        hours.policy_id,
        hours.subject,
        hours.hour,
        median(past.mean_usd) AS median_usd,
        mad(past.mean_usd) AS mad_usd,
        if(
            count(seasons.median_usd) >= 6,
            greatest(median(past.mean_usd / nullif(seasons.median_usd, 0)), 1),
            1
        ) AS drift
    FROM hours
    INNER JOIN hours AS past
        ON hours.policy_id = past.policy_id
        AND hours.subject = past.subject
        AND past.hour < hours.hour
        AND past.hour >= hours.hour - to_seconds(hours.baseline_window_hours * 3600)
    LEFT JOIN seasons
        ON past.policy_id = seasons.policy_id
        AND past.subject = seasons.subject
        AND past.hour = seasons.hour
    GROUP BY hours.policy_id, hours.subject, hours.hour
    HAVING count(*) >= 6
),

baselines AS (
    SELECT
        hours.policy_id,
        hours.subject,
        hours.hour,
        coalesce(seasons.median_usd * coalesce(recents.drift, 1), recents.median_usd) AS baseline_usd,
        coalesce(seasons.mad_usd * coalesce(recents.drift, 1), recents.mad_usd) AS mad_usd,
        if(seasons.median_usd IS NOT NULL, 'weekday_hour', 'preceding_hours') AS source
    FROM hours
    LEFT JOIN seasons
        ON hours.policy_id = seasons.policy_id AND hours.subject = seasons.subject AND hours.hour = seasons.hour
    LEFT JOIN recents
        ON hours.policy_id = recents.policy_id AND hours.subject = recents.subject AND hours.hour = recents.hour
),

moments AS (
    SELECT
        *,
        count(*) OVER five_minutes AS window_count,
        CAST(sum(cost_usd) OVER five_minutes AS DOUBLE) / count(*) OVER five_minutes AS window_mean_usd
    FROM requests
    WINDOW five_minutes AS (
        PARTITION BY policy_id, subject ORDER BY timestamp
        RANGE BETWEEN INTERVAL 5 MINUTES PRECEDING AND CURRENT ROW
    )
),

-- The baseline of a window is that of the hour in which the window begins, so that it never holds
-- requests of the window itself (where that hour had no requests, the next one's serves). A window that
-- reaches into an hour which is dear every week is held against that hour's season.
expected AS (
    SELECT
        moments.*,
        coalesce(season.baseline_usd > before.baseline_usd, before.baseline_usd IS NULL) AS is_of_season,
        if(is_of_season, season.baseline_usd, before.baseline_usd) AS baseline_usd,
        if(is_of_season, season.mad_usd, before.mad_usd) AS mad_usd,
        if(is_of_season, season.source, before.source) AS source
    FROM moments
    ASOF INNER JOIN baselines AS before
        ON moments.policy_id = before.policy_id
        AND moments.subject = before.subject
        AND date_trunc('hour', moments.timestamp - INTERVAL 5 MINUTES) <= before.hour
    LEFT JOIN baselines AS season
        ON moments.policy_id = season.policy_id
        AND moments.subject = season.subject
        AND moments.hour = season.hour
        AND season.source = 'weekday_hour'
),

judged AS (
    SELECT
        *,
        window_count >= min_samples
        AND window_mean_usd > threshold_multiplier * baseline_usd
        -- In hours that vary widely by themselves, three (normal-consistent) deviations above as well.
        AND window_mean_usd > baseline_usd + 3 * 1.4826 * mad_usd AS is_above
    FROM expected
),

aboves AS (
    SELECT
        *,
        coalesce(
            timestamp >= lag(timestamp) OVER (PARTITION BY policy_id, subject ORDER BY timestamp)
            + INTERVAL 15 MINUTES,
            TRUE
        ) AS is_opening
    FROM judged
    WHERE is_above AND baseline_usd > 0
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
),

contents AS (
    SELECT
        episodes.policy_id,
        episodes.subject,
        episodes.episode_number,
        count(*) AS request_count,
        CAST(sum(requests.cost_usd) AS DOUBLE) / count(*) AS avg_cost_usd
    FROM episodes
    INNER JOIN requests
        ON episodes.policy_id = requests.policy_id
        AND episodes.subject = requests.subject
        AND requests.timestamp BETWEEN episodes.opened_at - INTERVAL 5 MINUTES AND episodes.last_above_at
    GROUP BY episodes.policy_id, episodes.subject, episodes.episode_number
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
FROM episodes
INNER JOIN contents
    ON episodes.policy_id = contents.policy_id
    AND episodes.subject = contents.subject
    AND episodes.episode_number = contents.episode_number
ORDER BY window_start, episodes.subject, episodes.policy_id;
