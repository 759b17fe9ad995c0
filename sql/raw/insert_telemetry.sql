-- Take the valid lines of a batch (`incoming_lines`, registered by the loader) into raw.telemetry. A line
-- with an instant that SQL cannot take is left out; the loader sees it by the number of rows.
-- param file_id: the file they stand in
INSERT INTO raw.telemetry BY NAME
SELECT $file_id AS file_id, * REPLACE (event_time(timestamp) AS timestamp)
FROM (
    SELECT line_offset, unnest(from_json(line, '{
        "timestamp": "VARCHAR",
        "event": "VARCHAR",
        "schema_version": "VARCHAR",
        "request_id": "VARCHAR",
        "tenant_id": "VARCHAR",
        "caller_id": "VARCHAR",
        "use_case": "VARCHAR",
        "feature_id": "VARCHAR",
        "experiment_id": "VARCHAR",
        "budget_namespace": "VARCHAR",
        "route": "VARCHAR",
        "route_name": "VARCHAR",
        "provider_requested": "VARCHAR",
        "provider_selected": "VARCHAR",
        "model_selected": "VARCHAR",
        "provider": "VARCHAR",
        "model": "VARCHAR",
        "selected_model": "VARCHAR",
        "model_tier": "VARCHAR",
        "tokens_in": "BIGINT",
        "tokens_out": "BIGINT",
        "tokens": {"input": "BIGINT", "output": "BIGINT"},
        "estimated_cost_usd": "DOUBLE",
        "cost_usd": "DOUBLE",
        "cost_source": "VARCHAR",
        "latency_ms": "DOUBLE",
        "status": "VARCHAR",
        "success": "BOOLEAN",
        "error_type": "VARCHAR",
        "finish_reason": "VARCHAR",
        "is_fallback": "BOOLEAN",
        "fallback_triggered": "BOOLEAN",
        "fallback_reason": "VARCHAR",
        "retry_count": "DOUBLE",
        "cache_hit": "BOOLEAN",
        "price_version": "VARCHAR",
        "cache_read_tokens": "DOUBLE",
        "cache_write_tokens": "DOUBLE",
        "circuit_state": "VARCHAR",
        "circuit_breaker_state": "VARCHAR",
        "attempts": [{"provider": "VARCHAR", "model": "VARCHAR", "latency_ms": "DOUBLE", "status": "VARCHAR", "error_type": "VARCHAR"}],
        "audit_tags": {"tenant_id": "VARCHAR", "caller_id": "VARCHAR", "use_case": "VARCHAR", "feature_id": "VARCHAR", "experiment_id": "VARCHAR", "budget_namespace": "VARCHAR"},
        "metadata": {"tenant_id": "VARCHAR", "caller_id": "VARCHAR", "use_case": "VARCHAR", "feature_id": "VARCHAR", "experiment_id": "VARCHAR", "budget_namespace": "VARCHAR"}
    }'))
    FROM incoming_lines
)
WHERE
    event_time(timestamp) IS NOT NULL;
