-- Both arms of every experiment, summed exactly: the experiment's own requests, and those of its control.
-- The control is the registered one; else the `control` or `…-control` experiment whose stem is the
-- longest beginning of the experiment's id (`control` has the empty stem); else the only `…-control`
-- there is; else the untagged requests of the same features between the experiment's first and last.
-- An id of that form, or one that another experiment is registered against, is itself a control.
-- Costs are summed as dollars and nano-dollars apart, so that no sum of squares can overflow.
-- param since: only requests from this instant on, TIMESTAMPTZ, null for all
CREATE OR REPLACE TEMP TABLE experiment_arms AS
WITH requests AS (
    SELECT experiment_id, feature_id, timestamp, tokens_in, tokens_out, is_success, cost_usd
    FROM marts.fct_requests
    WHERE
        fct_requests.has_telemetry
        AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.timestamp >= CAST($since AS TIMESTAMPTZ))
        AND experiment_id IS NOT NULL
),

experiments AS (
    SELECT
        requests.experiment_id,
        coalesce(requests.experiment_id = 'control' OR requests.experiment_id LIKE '%-control', FALSE)
            AS is_named_control,
        CASE
            WHEN requests.experiment_id = 'control' THEN ''
            WHEN requests.experiment_id LIKE '%-control' THEN left(requests.experiment_id, -8)
        END AS stem,
        min(requests.timestamp) AS first_at,
        max(requests.timestamp) AS last_at
    FROM requests
    GROUP BY requests.experiment_id
),

named_controls AS (
    SELECT
        experiments.experiment_id,
        arg_max(candidates.experiment_id, length(candidates.stem))
            FILTER (WHERE starts_with(experiments.experiment_id, candidates.stem)) AS closest_id,
        if(count(*) = 1, min(candidates.experiment_id), NULL) AS only_id
    FROM experiments
    INNER JOIN experiments AS candidates ON candidates.is_named_control
    WHERE NOT experiments.is_named_control
    GROUP BY experiments.experiment_id
),

controls AS (
    SELECT
        experiments.*,
        CASE
            WHEN registered.control_id IS NOT NULL THEN registered.control_id
            WHEN
                experiments.is_named_control
                OR experiments.experiment_id IN (SELECT control_id FROM temp.economics_experiments)
                THEN NULL
            ELSE coalesce(named_controls.closest_id, named_controls.only_id, '(untagged)')
        END AS control_id
    FROM experiments
    LEFT JOIN temp.economics_experiments AS registered
        ON experiments.experiment_id = registered.experiment_id
    LEFT JOIN named_controls ON experiments.experiment_id = named_controls.experiment_id
),

features AS (
    SELECT DISTINCT experiment_id, feature_id
    FROM requests
),

-- Untagged requests, where an experiment is compared with them.
untagged AS (
    SELECT feature_id, timestamp, tokens_in, tokens_out, is_success, cost_usd
    FROM marts.fct_requests
    WHERE
        fct_requests.experiment_id IS NULL
        AND fct_requests.has_telemetry
        AND (CAST($since AS TIMESTAMPTZ) IS NULL OR fct_requests.timestamp >= CAST($since AS TIMESTAMPTZ))
        AND fct_requests.timestamp >= (SELECT min(first_at) FROM controls WHERE control_id = '(untagged)')
),

members AS (
    SELECT controls.experiment_id, controls.control_id, 'treatment' AS arm, requests.*
        EXCLUDE (experiment_id)
    FROM controls
    INNER JOIN requests ON controls.experiment_id = requests.experiment_id
    UNION ALL
    SELECT controls.experiment_id, controls.control_id, 'control' AS arm, requests.*
        EXCLUDE (experiment_id)
    FROM controls
    INNER JOIN requests ON controls.control_id = requests.experiment_id
    UNION ALL
    SELECT controls.experiment_id, controls.control_id, 'control' AS arm, untagged.*
    FROM controls
    INNER JOIN features ON controls.experiment_id = features.experiment_id
    INNER JOIN untagged
        ON features.feature_id IS NOT DISTINCT FROM untagged.feature_id
        AND untagged.timestamp BETWEEN controls.first_at AND controls.last_at
    WHERE controls.control_id = '(untagged)'
),

summands AS (
    SELECT
        *,
        CAST(CAST(cost_usd AS DECIMAL(28, 9)) * 1000000000 AS BIGINT) // 1000000000 AS dollars,
        CAST(CAST(cost_usd AS DECIMAL(28, 9)) * 1000000000 AS BIGINT) % 1000000000 AS nanos
    FROM members
)

SELECT
    experiment_id,
    control_id,
    arm,
    count(*) AS request_count,
    count(*) FILTER (WHERE is_success) AS success_count,
    count(dollars) AS priced_count,
    coalesce(sum(dollars), 0) AS dollars,
    coalesce(sum(nanos), 0) AS nanos,
    coalesce(sum(CAST(dollars AS HUGEINT) * dollars), 0) AS dollars_dollars,
    coalesce(sum(CAST(dollars AS HUGEINT) * nanos), 0) AS dollars_nanos,
    coalesce(sum(CAST(nanos AS HUGEINT) * nanos), 0) AS nanos_nanos,
    sum(tokens_in) / nullif(count(tokens_in), 0) AS avg_tokens_in,
    sum(tokens_out) / nullif(count(tokens_out), 0) AS avg_tokens_out
FROM summands
GROUP BY experiment_id, control_id, arm;
