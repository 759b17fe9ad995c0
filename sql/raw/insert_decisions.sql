-- Take the valid lines of a batch (`incoming_lines`, registered by the loader) into raw.policy_decisions. A line
-- with an instant that SQL cannot take is left out; the loader sees it by the number of rows.
-- param file_id: the file they stand in
INSERT INTO raw.policy_decisions BY NAME
SELECT $file_id AS file_id, * REPLACE (event_time(timestamp) AS timestamp, event_time(reservation_expires_at) AS reservation_expires_at)
FROM (
    SELECT line_offset, unnest(from_json(line, '{
        "timestamp": "VARCHAR",
        "reservation_expires_at": "VARCHAR",
        "event": "VARCHAR",
        "schema_version": "VARCHAR",
        "request_id": "VARCHAR",
        "tenant_id": "VARCHAR",
        "caller_id": "VARCHAR",
        "use_case": "VARCHAR",
        "feature_id": "VARCHAR",
        "experiment_id": "VARCHAR",
        "budget_namespace": "VARCHAR",
        "charged_namespace": "VARCHAR",
        "route_name": "VARCHAR",
        "model": "VARCHAR",
        "requested_model_tier": "VARCHAR",
        "effective_model_tier": "VARCHAR",
        "primitive": "VARCHAR",
        "decision": "VARCHAR",
        "reason": "VARCHAR",
        "policy_id": "VARCHAR",
        "mode": "VARCHAR",
        "state": "VARCHAR",
        "state_reason": "VARCHAR",
        "estimated_cost_usd": "DOUBLE",
        "requested_estimated_cost_usd": "DOUBLE",
        "reserved_cost_usd": "DOUBLE",
        "estimated_tokens_in": "DOUBLE",
        "reserved_tokens": "DOUBLE",
        "latency_ms": "DOUBLE",
        "window_cost_usd": "DOUBLE",
        "window_reserved_usd": "DOUBLE",
        "window_limit_usd": "DOUBLE",
        "window_start": "VARCHAR",
        "policy_version": "VARCHAR",
        "policy_hash": "VARCHAR",
        "price_version": "VARCHAR",
        "telemetry_position": {"fingerprint": "VARCHAR", "offset": "DOUBLE"},
        "rules": [{"policy_id": "VARCHAR", "primitive": "VARCHAR", "mode": "VARCHAR", "outcome": "VARCHAR", "reason": "VARCHAR", "scope": "MAP(VARCHAR, VARCHAR)", "tier": "VARCHAR", "spent_usd": "DOUBLE", "reserved_usd": "DOUBLE", "reservation_usd": "DOUBLE", "limit_usd": "DOUBLE", "window_start": "VARCHAR", "baseline_usd": "DOUBLE", "threshold_usd": "DOUBLE", "samples": "DOUBLE"}],
        "policy_text": "VARCHAR",
        "error": "VARCHAR",
        "scope": "MAP(VARCHAR, VARCHAR)",
        "threshold": "DOUBLE"
    }'))
    FROM incoming_lines
)
WHERE
    event_time(timestamp) IS NOT NULL
    AND (reservation_expires_at IS NULL OR event_time(reservation_expires_at) IS NOT NULL);
