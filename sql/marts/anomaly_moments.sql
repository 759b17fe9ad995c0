-- Bring the moments that are "above" up to date from an instant on (docs/semantics.md, "Cost anomalies").
-- Every successful request with a known cost is a moment at which the five minutes up to it are looked
-- at: at least min_samples requests with a mean above multiplier × baseline are "above". What is dated
-- earlier than `since` depends on nothing that is dated at it or later.
-- param since: the earliest instant that changed, TIMESTAMPTZ, null for all
DELETE FROM ops.anomaly_moments
WHERE
    CAST($since AS TIMESTAMPTZ) IS NULL
    OR anomaly_moments.timestamp >= CAST($since AS TIMESTAMPTZ);

INSERT INTO ops.anomaly_moments BY NAME
WITH requests AS (
    SELECT
        watches.policy_id,
        watches.threshold_multiplier,
        watches.min_samples,
        facts.feature_id,
        'feature:' || coalesce(facts.feature_id, '(none)') AS subject,
        facts.timestamp,
        facts.cost_usd,
        date_trunc('hour', facts.timestamp) AS hour
    FROM marts.fct_requests AS facts
    INNER JOIN temp.anomaly_watches AS watches
        ON watches.feature_id IS NULL OR watches.feature_id = facts.feature_id
    WHERE
        facts.has_telemetry
        AND facts.is_success
        AND facts.cost_usd IS NOT NULL
        AND facts.timestamp
        >= coalesce(CAST($since AS TIMESTAMPTZ) - INTERVAL 5 MINUTES, TIMESTAMPTZ '0001-01-01')
),

hours AS (
    SELECT
        watches.policy_id,
        'feature:' || coalesce(cost_hours.feature_id, '(none)') AS subject,
        cost_hours.hour,
        any_value(watches.baseline_window_hours) AS baseline_window_hours,
        CAST(sum(cost_hours.cost_usd) AS DOUBLE) / sum(cost_hours.request_count) AS mean_usd
    FROM ops.cost_hours
    INNER JOIN temp.anomaly_watches AS watches
        ON watches.feature_id IS NULL OR watches.feature_id = cost_hours.feature_id
    GROUP BY ALL
),

-- The hours in which windows to be judged begin or end; nothing later depends on earlier ones but as history.
judged_hours AS (
    SELECT *
    FROM hours
    WHERE
        hour >= coalesce(
            date_trunc('hour', CAST($since AS TIMESTAMPTZ) - INTERVAL 5 MINUTES), TIMESTAMPTZ '0001-01-01'
        )
),

-- Those, and the hours that they are compared with.
compared_hours AS (
    SELECT *
    FROM hours
    WHERE
        hour >= coalesce(
            date_trunc('hour', CAST($since AS TIMESTAMPTZ) - INTERVAL 5 MINUTES)
            - to_seconds(baseline_window_hours * 3600),
            TIMESTAMPTZ '0001-01-01'
        )
),

seasonal_hours AS (
    SELECT
        policy_id,
        subject,
        hour,
        hour - to_days(CAST(7 * unnest(range(1, 9)) AS INTEGER)) AS past_hour
    FROM compared_hours
),

-- The same hour of the same weekday in the eight weeks before.
seasons AS (
    SELECT
        hours.policy_id,
        hours.subject,
        hours.hour,
        median(past.mean_usd) AS median_usd,
        mad(past.mean_usd) AS mad_usd
    FROM seasonal_hours AS hours
    INNER JOIN hours AS past
        ON hours.policy_id = past.policy_id
        AND hours.subject = past.subject
        AND hours.past_hour = past.hour
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
    FROM judged_hours AS hours
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
    FROM judged_hours AS hours
    LEFT JOIN seasons
        ON hours.policy_id = seasons.policy_id AND hours.subject = seasons.subject AND hours.hour = seasons.hour
    LEFT JOIN recents
        ON hours.policy_id = recents.policy_id AND hours.subject = recents.subject AND hours.hour = recents.hour
),

moments AS (
    SELECT
        *,
        count(*) OVER five_minutes AS window_count,
        CAST(sum(cost_usd) OVER five_minutes AS DOUBLE) / count(*) OVER five_minutes AS window_mean_usd,
        CAST(sum(cost_usd) OVER five_minutes - max(cost_usd) OVER five_minutes AS DOUBLE)
        / nullif(count(*) OVER five_minutes - 1, 0) AS mean_without_dearest_usd
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
        -- One request, however dear, is no episode: without it at least three quarters must be left.
        AND coalesce(mean_without_dearest_usd > 0.75 * threshold_multiplier * baseline_usd, TRUE)
        -- In hours that vary widely by themselves, three (normal-consistent) deviations above as well.
        AND window_mean_usd > baseline_usd + 3 * 1.4826 * mad_usd AS is_above
    FROM expected
)

SELECT policy_id, subject, feature_id, timestamp, baseline_usd, source
FROM judged
WHERE
    is_above
    AND baseline_usd > 0
    AND judged.timestamp >= coalesce(CAST($since AS TIMESTAMPTZ), TIMESTAMPTZ '0001-01-01');
