"""The gate's reader and the staging SQL say the same of every line, in every dialect."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from governance_pipeline.ingest import ingest
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from governance_pipeline.warehouse import connect
from llmscope.errors import MalformedLine
from llmscope.event_log import fingerprint_of, iter_lines
from llmscope.telemetry_line import Usage, read_usage
from tests.governance_pipeline.conftest import SettlementLogs, write_lines
from tests.settlement_table import TRANSITIONS, Transition

DIALECTS = Path(__file__).parents[2] / "fixtures" / "dialects"
SAMPLES = sorted(DIALECTS.glob("*.jsonl"))

STAGED = """
    SELECT line_offset, request_id, epoch_us(timestamp) AS timestamp_us, tenant_id, caller_id, use_case,
        feature_id, experiment_id, budget_namespace, route_name, provider, model, model_tier,
        tokens_in, tokens_out, cost_usd, latency_ms, status, is_success, finish_reason, is_fallback
    FROM staging.stg_requests ORDER BY line_offset
"""


def read_by_gate(data: bytes) -> tuple[dict[int, Usage], dict[int, str]]:
    """Each line's usage, or its reject reason, by offset, as the gate reads them."""
    usages, rejects = {}, {}
    fingerprint = fingerprint_of(data)
    for offset, line in iter_lines(data):
        if not line or line.isspace():
            continue
        try:
            usage = read_usage(line, f"line:{fingerprint.sha256[:32]}:{offset}")
        except MalformedLine as malformed:
            rejects[offset] = malformed.reason
        else:
            if usage is not None:
                usages[offset] = usage
    return usages, rejects


def as_row(offset: int, usage: Usage) -> tuple[Any, ...]:
    cost = None if usage.cost_nano is None else Decimal(usage.cost_nano) / 1_000_000_000
    return (
        offset, usage.request_id, usage.timestamp_us, usage.tenant_id, usage.caller_id, usage.use_case,
        usage.feature_id, usage.experiment_id, usage.budget_namespace, usage.route_name, usage.provider,
        usage.model, usage.model_tier, usage.tokens_in, usage.tokens_out, cost, usage.latency_ms,
        usage.status, usage.success, usage.finish_reason, usage.is_fallback,
    )  # fmt: skip


def read_by_sql(con: duckdb.DuckDBPyConnection) -> tuple[list[tuple[Any, ...]], dict[int, str]]:
    build_stg_requests(con)
    rejects = con.execute("SELECT line_offset, reason FROM raw.rejected_lines").fetchall()
    return con.execute(STAGED).fetchall(), dict(rejects)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_gate_and_staging_say_the_same_of_every_sample(
    sample: Path, warehouse: duckdb.DuckDBPyConnection
) -> None:
    usages, gate_rejects = read_by_gate(sample.read_bytes())
    ingest(warehouse, telemetry=[sample], decisions=[])
    rows, sql_rejects = read_by_sql(warehouse)
    assert rows == [as_row(offset, usage) for offset, usage in usages.items()]
    assert sql_rejects == gate_rejects
    assert usages, "a sample without a single readable line shows nothing"


def test_the_samples_reach_every_dialect() -> None:
    assert {path.stem for path in SAMPLES} == {
        "original_llmscope", "older_fixture", "monitor", "ours", "odd_timestamps",
    }  # fmt: skip


def test_a_broken_precedence_in_the_sql_would_be_seen(
    warehouse: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: with tags read before the top level, the comparison above fails."""
    from governance_pipeline import staging
    from governance_pipeline.sql_files import load_sql, parse_sql

    right = load_sql("staging/stg_requests").text
    wrong = right.replace(
        "nullif(tenant_id, ''), nullif(audit_tags.tenant_id, '')", "nullif(audit_tags.tenant_id, '')"
    )
    assert wrong != right
    broken = parse_sql("staging/stg_requests", wrong)
    monkeypatch.setattr(staging, "load_sql", lambda name: broken if name == broken.name else load_sql(name))
    sample = DIALECTS / "ours.jsonl"
    ingest(warehouse, telemetry=[sample], decisions=[])
    rows, _ = read_by_sql(warehouse)
    usages, _ = read_by_gate(sample.read_bytes())
    assert rows != [as_row(offset, usage) for offset, usage in usages.items()]


def test_the_original_is_read_as_its_specification_says(warehouse: duckdb.DuckDBPyConnection) -> None:
    ingest(warehouse, telemetry=[DIALECTS / "original_llmscope.jsonl"], decisions=[])
    build_stg_requests(warehouse)
    rows = warehouse.execute(
        "SELECT feature_id, use_case, experiment_id, budget_namespace, cost_usd, status, is_success, error_type "
        "FROM staging.stg_requests ORDER BY timestamp"
    ).fetchall()
    assert rows == [
        (
            "answer-bot",
            "support",
            "exp-short-prompt",
            "team-support",
            Decimal("0.0001326"),
            "success",
            True,
            None,
        ),
        (None, None, None, None, Decimal("0.01012"), "success", True, None),
        ("support", "support", None, "team-support", None, "error", False, "timeout"),
        ("answer-bot", None, None, None, None, "error", False, "auth_error"),
    ]


def test_attempts_retries_and_fallbacks_are_told(warehouse: duckdb.DuckDBPyConnection) -> None:
    ingest(warehouse, telemetry=[DIALECTS / "ours.jsonl"], decisions=[])
    build_stg_requests(warehouse)
    rows = warehouse.execute(
        "SELECT attempt_count, retry_count, winning_attempt_ms, fallback_reason, price_version, cost_source "
        "FROM staging.stg_requests ORDER BY timestamp LIMIT 2"
    ).fetchall()
    assert rows == [
        (3, 1, 405.25, "timeout", "sha256:ab12", "estimated_local_snapshot"),
        (None, None, None, None, None, "cached_zero"),
    ]


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (400, 400),
        (400.0, 400),
        (0, 0),
        (1000, 1000),
        (1001, None),
        (-1, None),
        (0.5, None),
        (1e300, None),
        (None, None),
    ],
)
def test_cached_tokens_are_a_part_of_the_input_or_not_known(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, written: float | None, kept: int | None
) -> None:
    line = {
        "timestamp": "2026-03-24T10:00:00Z",
        "tokens_in": 1000,
        "cache_read_tokens": written,
        "cache_write_tokens": written,
        "attempts": [{"status": "error"}, {"status": "success"}, {"status": "success"}],
    }
    path = write_lines(tmp_path / "t.jsonl", [line])
    assert ingest(warehouse, telemetry=[path], decisions=[]).new_rejects == 0
    build_stg_requests(warehouse)
    rows = warehouse.execute(
        "SELECT cache_read_tokens, cache_write_tokens, answer_count FROM staging.stg_requests"
    ).fetchall()
    assert rows == [(kept, kept, 2)]


def test_of_duplicates_the_first_known_cost_counts_in_time_order(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    def line(second: int, cost: float | None, request_id: str = "r") -> dict[str, Any]:
        return {
            "request_id": request_id,
            "timestamp": f"2026-03-24T10:00:{second:02}Z",
            "estimated_cost_usd": cost,
        }

    path = write_lines(
        tmp_path / "t.jsonl",
        [line(9, 0.9), line(1, None), line(5, 0.5), line(3, None), line(2, None, "s"), line(1, None, "s")],
    )
    ingest(warehouse, telemetry=[path], decisions=[])
    assert build_stg_requests(warehouse) == 2
    rows = warehouse.execute(
        "SELECT request_id, epoch(timestamp) % 60, cost_usd, duplicate_count FROM staging.stg_requests ORDER BY 1"
    ).fetchall()
    assert rows == [("r", 5, Decimal("0.5"), 3), ("s", 1, None, 1)]


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: row.name)
def test_every_transition_is_staged_with_its_lease_and_its_counting_bill(
    row: Transition,
    warehouse: duckdb.DuckDBPyConnection,
    settlement_logs: Callable[[Transition], SettlementLogs],
) -> None:
    logs = settlement_logs(row)
    ingest(warehouse, telemetry=[logs.telemetry], decisions=[logs.decisions])
    assert build_stg_decisions(warehouse) == (row.decision is not None)
    assert build_stg_requests(warehouse) == bool(row.bills)
    reserved = warehouse.execute(
        "SELECT reserved_cost_usd, epoch(reservation_expires_at - timestamp) FROM staging.stg_decisions"
    ).fetchall()
    if row.decision is not None and row.decision.reserved_nano is not None:
        assert reserved == [(Decimal(row.decision.reserved_nano) / 1_000_000_000, 900)]
    spent = warehouse.execute("SELECT sum(cost_usd) FROM staging.stg_requests").fetchall()[0][0]
    assert (spent or 0) * 1_000_000_000 == row.spent_nano


def test_a_decision_keeps_its_numbers_and_every_rule(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    decisions = write_lines(
        tmp_path / "d.jsonl",
        [
            {
                "timestamp": "2026-03-24T10:00:00+00:00", "request_id": "r", "decision": "downgrade",
                "use_case": "triage", "charged_namespace": "default", "budget_namespace": "nobody",
                "estimated_cost_usd": 0.0000000025, "requested_estimated_cost_usd": 0.05,
                "reserved_cost_usd": 0.001, "window_cost_usd": 1.5, "window_limit_usd": 10,
                "window_start": "2026-03-24T00:00:00+00:00", "estimated_tokens_in": 42, "state": "fresh",
                "rules": [
                    {"policy_id": "daily", "primitive": "budget_threshold", "mode": "enforce",
                     "outcome": "downgrade", "scope": {"tenant_id": "acme"}, "spent_usd": 1.5},
                    {"policy_id": "tokens", "primitive": "token_limit", "mode": "shadow", "outcome": "deny"},
                ],
            },
            {"timestamp": "2026-03-24T10:00:01+00:00", "request_id": "r", "decision": "deny"},
            {"timestamp": "2026-03-24T10:00:02+00:00", "event": "policy_loaded", "policy_hash": "x", "policy_text": "y"},
        ],
    )  # fmt: skip
    ingest(warehouse, telemetry=[], decisions=[decisions])
    assert build_stg_decisions(warehouse) == 1
    row = warehouse.execute(
        "SELECT decision, feature_id, charged_namespace, estimated_cost_usd, requested_estimated_cost_usd, "
        "window_cost_usd, window_reserved_usd, window_limit_usd, epoch(timestamp - window_start), "
        "estimated_tokens_in, rules FROM staging.stg_decisions"
    ).fetchall()[0]
    assert row[:10] == (
        "downgrade", "triage", "default", Decimal("0.000000002"), Decimal("0.05"),
        Decimal("1.5"), None, Decimal(10), 36000, 42,
    )  # fmt: skip
    assert row[10] == [
        {"policy_id": "daily", "primitive": "budget_threshold", "mode": "enforce", "outcome": "downgrade"},
        {"policy_id": "tokens", "primitive": "token_limit", "mode": "shadow", "outcome": "deny"},
    ]
    assert warehouse.execute("SELECT count(*) FROM raw.policy_decisions").fetchall() == [(3,)]


# Generated lines: mostly what the schema allows, now and then anything at all.
TEXTS = st.one_of(
    st.none(), st.sampled_from(["", "a", "team-a", "success", "error", "degraded_unknown", "stop", "ok", "cached"]),
    st.text(max_size=8), st.integers(), st.booleans(),
)  # fmt: skip
COSTS = st.one_of(
    st.none(), st.floats(0, 2, allow_nan=False), st.integers(0, 10), st.sampled_from([5e-10, 1.5e-9, 2.5e-9, -1, 1e9]),
    st.integers(0, 10**10).map(lambda half: (half + 0.5) / 1e9), st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
COUNTS = st.one_of(st.none(), st.integers(0, 10**6), st.sampled_from([10.0, 0.5, -1, 1 << 53, 10**30]))
NUMBERS = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-10, 10**20), st.just(10**400)
)
TIMES = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.datetimes().map(lambda at: at.isoformat(" ")),
    st.builds(
        "2026-{:02}-{:02}T{:02}:{:02}:{:02}{}{}".format,
        st.integers(1, 12), st.integers(1, 31), st.integers(0, 24), st.integers(0, 60), st.integers(0, 60),
        st.sampled_from(["", ".1", ".123456789", "."]),
        st.one_of(
            st.sampled_from(["", "Z", "+00:00", "+00:00Z", "z", "+0000", "-00:00"]),
            st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 25), st.integers(0, 75)),
        ),
    ),
    TEXTS,
)  # fmt: skip
ANYTHING = st.recursive(
    TEXTS | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
GROUPS = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(["tenant_id", "use_case", "feature_id", "experiment_id", "budget_namespace", "caller_id", "x"]),
        TEXTS, max_size=4,
    ),
    ANYTHING,
)  # fmt: skip
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        ["tenant_id", "caller_id", "use_case", "feature_id", "experiment_id", "budget_namespace", "route",
         "route_name", "provider_selected", "provider", "model", "model_selected", "selected_model", "model_tier",
         "status", "finish_reason", "cost_source", "error_type"],
        TEXTS,
    ),
    **dict.fromkeys(["tokens_in", "tokens_out"], COUNTS),
    **dict.fromkeys(["estimated_cost_usd", "cost_usd"], COSTS),
    **dict.fromkeys(["latency_ms", "retry_count"], NUMBERS),
    **dict.fromkeys(["is_fallback", "fallback_triggered", "success", "cache_hit"], st.one_of(st.none(), st.booleans(), TEXTS)),
    "audit_tags": GROUPS,
    "metadata": GROUPS,
    "tokens": st.one_of(st.none(), st.fixed_dictionaries({}, optional={"input": COUNTS, "output": COUNTS, "total": NUMBERS}), ANYTHING),
    "attempts": st.one_of(st.none(), st.lists(st.dictionaries(st.sampled_from(["model", "latency_ms"]), TEXTS | NUMBERS, max_size=2), max_size=2)),
    "event": st.sampled_from([None, "request", "outcome", "", 1]),
    "unknown": ANYTHING,
}  # fmt: skip
OBJECTS = st.builds(
    lambda stamp, some: {"timestamp": stamp, **some},
    st.one_of(st.just("2026-03-24T10:00:00.5+00:00"), TIMES),
    st.lists(st.sampled_from(sorted(FIELDS)), max_size=6, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
    ),
)
GARBAGE = st.one_of(
    st.binary(max_size=40).filter(lambda data: b"\n" not in data and not data.startswith(b"\x1f\x8b")),
    ANYTHING.map(lambda value: json.dumps(value).encode()),
    OBJECTS.map(lambda value: json.dumps(value).encode()[:-5]),
    st.builds(lambda a, b: b"%s %s" % (json.dumps(a).encode(), json.dumps(b).encode()), OBJECTS, OBJECTS),
    st.builds(
        lambda field, a, b: f'{{"timestamp":"2026-01-01T00:00:00Z",{field}:{json.dumps(a)},{field}:{json.dumps(b)}}}'.encode(),
        st.sampled_from(['"tenant_id"', '"audit_tags"', '"estimated_cost_usd"']), ANYTHING, ANYTHING,
    ),
)  # fmt: skip
LINES = st.one_of(
    OBJECTS.map(lambda value: json.dumps(value).encode()),
    OBJECTS.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    GARBAGE,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=st.lists(LINES, min_size=1, max_size=25))
def test_gate_and_staging_say_the_same_of_any_line(
    lines: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    path = tmp_path_factory.mktemp("generated") / "telemetry.jsonl"
    path.write_bytes(data)
    usages, gate_rejects = read_by_gate(data)
    with connect(":memory:") as con:
        report = ingest(con, telemetry=[path], decisions=[])
        rows, sql_rejects = read_by_sql(con)
    assert sql_rejects == gate_rejects
    assert rows == [as_row(offset, usage) for offset, usage in usages.items()]
    assert report.new_rows + report.new_rejects + report.blanks == len(lines)
