-- One row per request that telemetry reports, whatever dialect it is in (docs/semantics.md). What
-- llmscope.telemetry_line.normalise says in Python is said here in SQL. Of several lines with one id the
-- first with a known cost is kept, else the first; order is timestamp, file fingerprint, offset.
-- Reads the lines that `telemetry_to_stage` shows: all of them, or all of some requests.
CREATE OR REPLACE TEMP VIEW staged_requests AS
WITH said AS (
    SELECT
        lines.*,
        files.fingerprint AS file_fingerprint,
        coalesce(
            nullif(lines.request_id, ''),
            concat('line:', left(files.fingerprint, 32), ':', lines.line_offset)
        ) AS said_request_id,
        coalesce(
            nullif(lines.status, ''),
            CASE WHEN success THEN 'success' WHEN NOT success THEN 'error' ELSE 'unknown' END
        ) AS said_status,
        nullif(lines.finish_reason, '') AS said_finish_reason,
        coalesce(
            nullif(lines.use_case, ''), nullif(lines.audit_tags.use_case, ''), nullif(lines.metadata.use_case, '')
        ) AS said_use_case
    FROM temp.telemetry_to_stage AS lines
    JOIN raw.ingest_files AS files USING (file_id)
    WHERE lines.event IS NULL OR lines.event = 'request'
),

normalised AS (
    SELECT
        said_request_id AS request_id,
        timestamp,
        coalesce(
            nullif(tenant_id, ''), nullif(audit_tags.tenant_id, ''), nullif(metadata.tenant_id, ''), 'default'
        ) AS tenant_id,
        coalesce(
            nullif(caller_id, ''), nullif(audit_tags.caller_id, ''), nullif(metadata.caller_id, '')
        ) AS caller_id,
        said_use_case AS use_case,
        coalesce(
            nullif(feature_id, ''), nullif(audit_tags.feature_id, ''), nullif(metadata.feature_id, ''),
            said_use_case
        ) AS feature_id,
        coalesce(
            nullif(experiment_id, ''), nullif(audit_tags.experiment_id, ''), nullif(metadata.experiment_id, '')
        ) AS experiment_id,
        coalesce(
            nullif(budget_namespace, ''),
            nullif(audit_tags.budget_namespace, ''),
            nullif(metadata.budget_namespace, '')
        ) AS budget_namespace,
        coalesce(nullif(route, ''), nullif(route_name, '')) AS route_name,
        coalesce(nullif(provider_selected, ''), nullif(provider, '')) AS provider,
        coalesce(nullif(model_selected, ''), nullif(model, ''), nullif(selected_model, '')) AS model,
        nullif(model_tier, '') AS model_tier,
        coalesce(tokens_in, tokens.input) AS tokens_in,
        coalesce(tokens_out, tokens.output) AS tokens_out,
        -- Parts of the input; what cannot be one says nothing.
        CASE
            WHEN cache_read_tokens BETWEEN 0 AND coalesce(tokens_in, tokens.input)
                AND cache_read_tokens = floor(cache_read_tokens)
            THEN CAST(cache_read_tokens AS BIGINT)
        END AS cache_read_tokens,
        CASE
            WHEN cache_write_tokens BETWEEN 0 AND coalesce(tokens_in, tokens.input)
                AND cache_write_tokens = floor(cache_write_tokens)
            THEN CAST(cache_write_tokens AS BIGINT)
        END AS cache_write_tokens,
        -- A failed call whose cost the runtime could not learn is unknown, whatever number stands there.
        CASE
            WHEN said_status = 'error' AND cost_source IS NOT DISTINCT FROM 'degraded_unknown' THEN NULL
            ELSE usd(coalesce(estimated_cost_usd, cost_usd))
        END AS cost_usd,
        CASE WHEN latency_ms >= 0 AND isfinite(latency_ms) THEN latency_ms END AS latency_ms,
        CASE WHEN said_status IN ('ok', 'success', 'cached') THEN 'success' ELSE said_status END AS status,
        CASE
            WHEN said_finish_reason IS NOT NULL
            THEN said_finish_reason IN ('stop', 'end_turn', 'stop_sequence', 'tool_calls')
            ELSE said_status IN ('ok', 'success', 'cached')
        END AS is_success,
        said_finish_reason AS finish_reason,
        nullif(error_type, '') AS error_type,
        coalesce(is_fallback, fallback_triggered, false) AS is_fallback,
        nullif(fallback_reason, '') AS fallback_reason,
        TRY_CAST(retry_count AS BIGINT) AS retry_count,
        len(attempts) AS attempt_count,
        -- More than one where a cascade bought a dearer answer after a cheap one.
        len(list_filter(attempts, lambda attempt: attempt.status IN ('success', 'ok'))) AS answer_count,
        CASE
            WHEN attempts[-1].latency_ms >= 0 AND isfinite(attempts[-1].latency_ms) THEN attempts[-1].latency_ms
        END AS winning_attempt_ms,
        nullif(price_version, '') AS price_version,
        nullif(cost_source, '') AS cost_source,
        file_id,
        line_offset,
        file_fingerprint
    FROM said
),

ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY request_id
            ORDER BY cost_usd IS NULL, timestamp, file_fingerprint, file_id, line_offset
        ) AS place,
        count(*) OVER (PARTITION BY request_id) - 1 AS duplicate_count
    FROM normalised
)

SELECT * EXCLUDE (place, file_fingerprint)
FROM ranked
WHERE place = 1
