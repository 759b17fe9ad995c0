-- One row per request that the gate decided, from the first decision line with its id; order is
-- timestamp, file fingerprint, offset. Other events of the log (policy_loaded, budget_alert) stay in raw.
-- Reads the lines that `decisions_to_stage` shows: all of them, or all of some requests.
CREATE OR REPLACE TEMP VIEW staged_decisions AS
WITH normalised AS (
    SELECT
        coalesce(
            nullif(lines.request_id, ''),
            concat('line:', left(files.fingerprint, 32), ':', lines.line_offset)
        ) AS request_id,
        lines.timestamp,
        coalesce(nullif(tenant_id, ''), 'default') AS tenant_id,
        nullif(caller_id, '') AS caller_id,
        nullif(use_case, '') AS use_case,
        coalesce(nullif(feature_id, ''), nullif(use_case, '')) AS feature_id,
        nullif(experiment_id, '') AS experiment_id,
        nullif(budget_namespace, '') AS budget_namespace,
        nullif(charged_namespace, '') AS charged_namespace,
        nullif(route_name, '') AS route_name,
        nullif(model, '') AS model,
        nullif(requested_model_tier, '') AS requested_model_tier,
        nullif(effective_model_tier, '') AS effective_model_tier,
        nullif(decision, '') AS decision,
        nullif(reason, '') AS reason,
        nullif(policy_id, '') AS policy_id,
        nullif(primitive, '') AS primitive,
        nullif(mode, '') AS mode,
        nullif(state, '') AS state,
        nullif(state_reason, '') AS state_reason,
        usd(estimated_cost_usd) AS estimated_cost_usd,
        usd(requested_estimated_cost_usd) AS requested_estimated_cost_usd,
        usd(reserved_cost_usd) AS reserved_cost_usd,
        TRY_CAST(estimated_tokens_in AS BIGINT) AS estimated_tokens_in,
        TRY_CAST(reserved_tokens AS BIGINT) AS reserved_tokens,
        reservation_expires_at,
        latency_ms,
        usd(window_cost_usd) AS window_cost_usd,
        usd(window_reserved_usd) AS window_reserved_usd,
        usd(window_limit_usd) AS window_limit_usd,
        event_time(window_start) AS window_start,
        nullif(policy_hash, '') AS policy_hash,
        nullif(price_version, '') AS price_version,
        list_transform(
            rules,
            lambda rule: {
                'policy_id': rule.policy_id,
                'primitive': rule.primitive,
                'mode': rule.mode,
                'outcome': rule.outcome
            }
        ) AS rules,
        file_id,
        line_offset,
        files.fingerprint AS file_fingerprint
    FROM temp.decisions_to_stage AS lines
    JOIN raw.ingest_files AS files USING (file_id)
    WHERE lines.event IS NULL OR lines.event = 'decision'
)

SELECT * EXCLUDE (file_fingerprint)
FROM normalised
QUALIFY row_number() OVER (
    PARTITION BY request_id ORDER BY timestamp, file_fingerprint, file_id, line_offset
) = 1
