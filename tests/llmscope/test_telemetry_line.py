"""One line in, one usage or one reject out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.errors import MalformedLine
from llmscope.telemetry_line import Usage, read_usage

WHEN = "2026-11-21T12:00:00.000000+00:00"
# The original's line, from its description: attribution in audit_tags only.
ORIGINAL = {
    "schema_version": "0.1.0", "request_id": "r1", "tenant_id": "acme", "route": "/answer-routed",
    "use_case": "support", "provider_selected": "openai", "model_selected": "gpt-4o-mini",
    "model_tier": "cheap", "tokens_in": 100, "tokens_out": 50, "tokens_total": 150,
    "estimated_cost_usd": 0.000045, "cost_source": "estimated_local_snapshot", "latency_ms": 812.5,
    "status": "success", "cache_hit": False, "eval_hooks": [],
    "audit_tags": {"feature_id": "search", "experiment_id": "e1", "budget_namespace": "team"},
    "timestamp": WHEN, "provider": "openai", "model": "gpt-4o-mini", "schema_valid": True,
    "selected_model": "gpt-4o-mini",
}  # fmt: skip


def usage(line: dict[str, Any] | bytes) -> Usage:
    raw = line if isinstance(line, bytes) else json.dumps(line).encode()
    found = read_usage(raw, "line:abc:0")
    assert found is not None
    return found


def test_the_originals_line_says_what_it_says() -> None:
    read = usage(ORIGINAL)
    assert (read.request_id, read.tenant_id, read.feature_id, read.experiment_id, read.budget_namespace) == (
        "r1", "acme", "search", "e1", "team",
    )  # fmt: skip
    assert (read.cost_nano, read.tokens_in, read.tokens_out, read.latency_ms) == (45_000, 100, 50, 812.5)
    assert (read.status, read.success, read.is_fallback) == ("success", True, False)


def test_the_monitors_record_is_read_too() -> None:
    read = usage({
        "timestamp": "2026-11-21T12:00:00.000000", "request_id": "m1", "provider": "anthropic",
        "model": "claude", "latency_ms": 900, "tokens": {"input": 10, "output": 5, "total": 15},
        "cost_usd": 0.021, "success": False, "metadata": {"experiment_id": "x", "feature_version": "v1"},
    })  # fmt: skip
    assert (read.tokens_in, read.tokens_out, read.cost_nano) == (10, 5, 21_000_000)
    assert (read.status, read.success, read.experiment_id, read.tenant_id) == ("error", False, "x", "default")


@pytest.mark.parametrize(
    ("changes", "cost_nano"),
    [
        ({"estimated_cost_usd": None}, None),
        ({"estimated_cost_usd": 0}, 0),
        ({"status": "error", "cost_source": "degraded_unknown", "estimated_cost_usd": 0.0}, None),
        ({"status": "error", "estimated_cost_usd": 0.0}, 0),
        ({"estimated_cost_usd": None, "cost_usd": 2}, 2_000_000_000),
    ],
)
def test_known_and_unknown_costs(changes: dict[str, Any], cost_nano: int | None) -> None:
    assert usage({**ORIGINAL, **changes}).cost_nano == cost_nano


def test_a_line_without_an_id_is_known_by_its_place() -> None:
    assert usage({"timestamp": WHEN}).request_id == "line:abc:0"


def test_other_events_are_no_requests() -> None:
    assert read_usage(json.dumps({"event": "outcome", "timestamp": WHEN}).encode(), "") is None
    assert read_usage(json.dumps({"event": "request", "timestamp": WHEN}).encode(), "") is not None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"timestamp":', "not_json"), (b"", "not_json"), (b"\x00\x01\x02", "not_json"),
        (b"[1,2]", "not_an_object"), (b'"text"', "not_an_object"), (b"17", "not_an_object"),
        (b'{"timestamp":"' + WHEN.encode() + b'","note":"\xff"}', "not_utf8"),
        (b'{"tenant_id":"\xff","timestamp":"' + WHEN.encode() + b'"}', "not_utf8"),
        (b'{"x":NaN}', "not_json"), (b'{"estimated_cost_usd":Infinity}', "not_json"),
        (b'{"pad":"' + b"x" * (1 << 20) + b'"}', "too_long"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not_json"),
        (b'{"request_id":"r"}', "missing_timestamp"), (b'{"timestamp":"soon"}', "bad_timestamp"),
        (b'{"timestamp":"1970-01-01T00:00:00Z"}', "absurd_timestamp"), (b'{"timestamp":17}', "wrong_type"),
        (b'{"tokens_in":"many"}', "wrong_type"), (b'{"audit_tags":"none"}', "wrong_type"),
        (b'{"tenant_id":{"a":1}}', "wrong_type"), (b'{"tokens_in":-1}', "bad_tokens"),
        (b'{"tokens_out":1.5}', "bad_tokens"), (b'{"tokens":{"input":-3}}', "bad_tokens"),
        (b'{"estimated_cost_usd":-0.01}', "bad_cost"), (b'{"cost_usd":1e9}', "bad_cost"),
        (b'{"estimated_cost_usd":"1.25"}', "wrong_type"),
    ],
)  # fmt: skip
def test_a_bad_line_is_one_reject_with_its_reason(line: bytes, reason: str) -> None:
    with pytest.raises(MalformedLine) as refused:
        read_usage(line, "")
    assert refused.value.reason == reason


def is_usage_or_reject(line: bytes) -> bool:
    try:
        read_usage(line, "")
    except MalformedLine as refused:
        return bool(refused.reason)
    return True


@given(st.binary(max_size=200))
def test_any_bytes_are_a_usage_or_a_reject(line: bytes) -> None:
    assert is_usage_or_reject(line)


@given(
    st.sampled_from(["latency_ms", "tokens_in", "estimated_cost_usd", "tenant_id", "status", "audit_tags"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)
def test_any_value_in_any_field_is_a_usage_or_a_reject(field: str, value: Any) -> None:
    assert is_usage_or_reject(json.dumps({"timestamp": WHEN, field: value}).encode())


@pytest.mark.parametrize("field", ["latency_ms", "tokens_in", "estimated_cost_usd", "tenant_id"])
@pytest.mark.parametrize("digits", [30, 400, 5000])
def test_absurdly_long_numbers_are_a_usage_or_a_reject(field: str, digits: int) -> None:
    assert is_usage_or_reject(b'{"timestamp":"%s","%s":%s}' % (WHEN.encode(), field.encode(), b"9" * digits))
