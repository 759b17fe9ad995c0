-- What each provider did: one row a provider, from staged requests and the attempts on their lines.
-- A request counts at every provider that was asked about it, and succeeded there if the last attempt there
-- answered; its tokens and cost count at the provider that the line names. Lines without attempts (other
-- dialects) are one attempt of the whole wait. Cache hits and refusals before anybody was asked count nowhere.
-- param since: the first instant, TIMESTAMPTZ, null for all time
-- param recent_seconds: how far before a provider's last attempt the recent failures reach
WITH lines AS (
    SELECT
        stg_requests.request_id,
        stg_requests.timestamp,
        stg_requests.line_offset,
        coalesce(stg_requests.provider, '(unknown)') AS provider,
        nullif(telemetry.provider_requested, '') AS provider_requested,
        stg_requests.tokens_in,
        stg_requests.tokens_out,
        stg_requests.cost_usd,
        stg_requests.latency_ms,
        stg_requests.status = 'success' AS is_answered,
        stg_requests.error_type,
        stg_requests.fallback_reason,
        telemetry.attempts,
        coalesce(len(telemetry.attempts), 0) AS attempt_count,
        coalesce(nullif(telemetry.circuit_state, ''), nullif(telemetry.circuit_breaker_state, '')) AS circuit_state
    FROM staging.stg_requests
    INNER JOIN raw.telemetry
        ON stg_requests.file_id = telemetry.file_id AND stg_requests.line_offset = telemetry.line_offset
    WHERE
        (CAST($since AS TIMESTAMPTZ) IS NULL OR stg_requests.timestamp >= $since)
        AND NOT (coalesce(telemetry.cache_hit, FALSE) OR stg_requests.cost_source IS NOT DISTINCT FROM 'cached_zero')
),

sent AS (
    SELECT *
    FROM lines
    WHERE
        lines.attempt_count > 0
        OR NOT (
            lines.error_type IS NOT NULL
            AND lines.error_type IN ('circuit_open', 'guard_blocked', 'context_too_large')
        )
),

attempts AS (
    SELECT
        request_id,
        timestamp,
        place,
        coalesce(nullif(attempt.provider, ''), provider) AS provider,
        attempt.latency_ms AS latency_ms,
        coalesce(attempt.status IN ('success', 'ok'), FALSE) AS is_answered,
        attempt.error_type AS error_type
    FROM (
        SELECT
            request_id, timestamp, provider,
            unnest(attempts) AS attempt, generate_subscripts(attempts, 1) AS place
        FROM sent
    )
    UNION ALL
    SELECT request_id, timestamp, 1 AS place, provider, latency_ms, is_answered, error_type
    FROM sent
    WHERE sent.attempt_count = 0
),

tries AS (
    SELECT provider, request_id, arg_max(is_answered, place) AS is_answered
    FROM attempts
    GROUP BY provider, request_id
),

counted AS (
    SELECT provider, count(*) AS request_count, count(*) FILTER (is_answered) AS success_count
    FROM tries
    GROUP BY provider
),

latencies AS (
    SELECT
        provider,
        count(*) AS attempt_count,
        quantile_cont(latency_ms, 0.5) AS latency_p50_ms,
        quantile_cont(latency_ms, 0.95) AS latency_p95_ms,
        quantile_cont(latency_ms, 0.99) AS latency_p99_ms,
        avg(latency_ms) AS latency_avg_ms,
        min(latency_ms) AS latency_min_ms,
        max(latency_ms) AS latency_max_ms
    FROM (
        SELECT * REPLACE (if(latency_ms >= 0 AND isfinite(latency_ms), latency_ms, NULL) AS latency_ms)
        FROM attempts
    )
    GROUP BY provider
),

bills AS (
    SELECT
        provider,
        coalesce(sum(tokens_in), 0) AS tokens_in,
        coalesce(sum(tokens_out), 0) AS tokens_out,
        coalesce(sum(cost_usd), 0) AS total_cost_usd,
        count(*) FILTER (cost_usd IS NULL) AS unpriced_count
    FROM sent
    GROUP BY provider
),

recent AS (
    SELECT
        provider,
        count(*) FILTER (is_failure) AS recent_failures,
        count(*) FILTER (is_failure) / nullif(count(*) FILTER (is_failure OR is_answered), 0) AS recent_error_rate
    FROM (
        SELECT
            provider,
            is_answered,
            NOT is_answered AND coalesce(error_type NOT IN ('cancelled', 'invalid_request'), TRUE) AS is_failure,
            timestamp >= max(timestamp) OVER (PARTITION BY provider) - to_seconds($recent_seconds) AS is_recent
        FROM attempts
    )
    WHERE is_recent
    GROUP BY provider
),

-- A circuit is seen on the lines of its provider, and where a call went elsewhere because it was open.
evidence AS (
    SELECT provider, timestamp, line_offset, circuit_state
    FROM lines
    WHERE lines.circuit_state IN ('closed', 'open', 'half_open')
    UNION ALL
    SELECT provider_requested AS provider, timestamp, line_offset, 'open' AS circuit_state
    FROM lines
    WHERE lines.fallback_reason = 'circuit_open' AND lines.provider_requested IS DISTINCT FROM lines.provider
),

circuits AS (
    SELECT
        evidence.provider,
        arg_max(evidence.circuit_state, (evidence.timestamp, evidence.line_offset)) AS circuit_state,
        max(evidence.timestamp) AS circuit_seen_at,
        min(evidence.timestamp) FILTER (
            evidence.circuit_state = 'open'
            AND (last_not_open.timestamp IS NULL OR evidence.timestamp >= last_not_open.timestamp)
        ) AS circuit_opened_at
    FROM evidence
    LEFT JOIN (
        SELECT provider, max(timestamp) AS timestamp FROM evidence WHERE evidence.circuit_state != 'open' GROUP BY provider
    ) AS last_not_open
        ON evidence.provider = last_not_open.provider
    GROUP BY evidence.provider
)

SELECT
    provider,
    coalesce(counted.request_count, 0) AS request_count,
    counted.success_count / counted.request_count AS success_rate,
    coalesce(latencies.attempt_count, 0) AS attempt_count,
    CAST(coalesce(bills.tokens_in, 0) AS HUGEINT) AS tokens_in,
    CAST(coalesce(bills.tokens_out, 0) AS HUGEINT) AS tokens_out,
    coalesce(bills.total_cost_usd, 0) AS total_cost_usd,
    coalesce(bills.unpriced_count, 0) AS unpriced_count,
    latencies.latency_p50_ms,
    latencies.latency_p95_ms,
    latencies.latency_p99_ms,
    latencies.latency_avg_ms,
    latencies.latency_min_ms,
    latencies.latency_max_ms,
    circuits.circuit_state,
    circuits.circuit_seen_at,
    if(circuits.circuit_state = 'open', circuits.circuit_opened_at, NULL) AS circuit_opened_at,
    coalesce(recent.recent_failures, 0) AS recent_failures,
    recent.recent_error_rate
FROM counted
FULL OUTER JOIN circuits USING (provider)
LEFT JOIN latencies USING (provider)
LEFT JOIN bills USING (provider)
LEFT JOIN recent USING (provider)
ORDER BY request_count DESC, provider
