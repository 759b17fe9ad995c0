"""marts.fct_requests: the settlement table through real ingest and staging, and what requests earn."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from governance_pipeline import sql_files
from governance_pipeline.economics import NO_ECONOMICS, load_economics
from governance_pipeline.facts import build_fct_requests, log_time
from governance_pipeline.ingest import ingest
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from governance_pipeline.warehouse import IN_MEMORY, connect
from tests.governance_pipeline.staged_rows import START as STAGED_START
from tests.governance_pipeline.staged_rows import staged
from tests.policy_runtime.log_lines import START, decision_line, lines_of, original_line, stamp, write_lines
from tests.settlement_table import RESERVED, TRANSITIONS, TTL_SECONDS, Transition

MONEY = "SELECT state, spent_usd, reserved_open_usd, lapsed_usd FROM marts.fct_requests ORDER BY request_id"


def facts_of(
    folder: Path, decisions: list[dict[str, Any]], bills: list[dict[str, Any]], look_at_seconds: float
) -> list[Any]:
    telemetry_path = write_lines(folder / "telemetry.jsonl", bills)
    decisions_path = write_lines(folder / "policy_decisions.jsonl", decisions)
    with connect(IN_MEMORY) as con:
        ingest(con, telemetry=[telemetry_path], decisions=[decisions_path])
        build_stg_requests(con)
        build_stg_decisions(con)
        build_fct_requests(con, NO_ECONOMICS, START + timedelta(seconds=look_at_seconds))
        return con.execute(MONEY).fetchall()


def nano(amount: Decimal) -> int:
    return int(amount * 10**9)


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: row.name)
def test_every_transition_comes_to_what_the_table_says(row: Transition, tmp_path: Path) -> None:
    decisions, bills = lines_of(row)
    [(state, spent, reserved, lapsed)] = facts_of(tmp_path, decisions, bills, row.look_at_seconds)
    assert (state, nano(spent), nano(reserved), nano(lapsed)) == (
        row.standing,
        row.spent_nano,
        row.reserved_nano,
        row.lapsed_nano,
    )


def test_the_whole_table_at_once_comes_to_its_own_sums(tmp_path: Path) -> None:
    """All rows in two shared logs, looked at when every reservation without a bill has lapsed."""
    decisions, bills = [], []
    for number, row in enumerate(TRANSITIONS):
        for line in lines_of(row, f"r{number:02}")[0]:
            decisions.append(line)
        bills.extend(lines_of(row, f"r{number:02}")[1])
    facts = facts_of(tmp_path, decisions, bills, 10_000)
    assert len(facts) == len(TRANSITIONS)
    assert sum(nano(spent) for _, spent, _, _ in facts) == sum(row.spent_nano for row in TRANSITIONS)
    unsettled = sum(row.reserved_nano + row.lapsed_nano for row in TRANSITIONS)
    assert sum(nano(lapsed) for *_, lapsed in facts) == unsettled
    assert {state for state, *_ in facts}.isdisjoint({"reserved", "unknown_bill"})


def test_an_expiry_read_one_microsecond_late_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: with `>` for `>=` a bill dated at the very expiry would still be in time."""
    real = sql_files.load_sql("marts/fct_requests")
    broken = sql_files.parse_sql(
        "marts/fct_requests",
        real.text.replace("timestamp >= reservation_expires_at", "timestamp > reservation_expires_at"),
    )
    monkeypatch.setattr("governance_pipeline.facts.load_sql", lambda name: {
        "marts/fct_requests": broken}.get(name) or sql_files.load_sql(name))  # fmt: skip
    row = next(row for row in TRANSITIONS if row.name == "settled_late_at_the_very_expiry")
    [(state, *_)] = facts_of(tmp_path, *lines_of(row), row.look_at_seconds)
    assert state == "settled" != row.standing


def test_an_extended_reservation_lapses_at_its_new_end(tmp_path: Path) -> None:
    extension = {
        "event": "reservation_extended",
        "schema_version": "0.1.0",
        "timestamp": stamp(600),
        "request_id": "r",
        "reservation_expires_at": stamp(600 + TTL_SECONDS),
    }
    decisions = [decision_line(0, RESERVED / 1e9), extension]
    for look_at, state in ((1499.999999, "reserved"), (1500, "lapsed")):
        [(seen, *_)] = facts_of(tmp_path / state, decisions, [], look_at)
        assert seen == state
    [(seen, *_)] = facts_of(tmp_path / "billed", decisions, [original_line(1000, 0.001)], 2000)
    assert seen == "settled"


def test_a_decision_without_an_expiry_lapses_after_900_seconds(tmp_path: Path) -> None:
    line = decision_line(0, 0.005)
    del line["reservation_expires_at"]
    for look_at, state in ((899, "reserved"), (900, "lapsed")):
        [(seen, *_)] = facts_of(tmp_path / state, [line], [], look_at)
        assert seen == state


def loaded(at_seconds: float, ttl_seconds: float | None, text: str | None = None) -> dict[str, Any]:
    written = {"namespaces": {}} | ({} if ttl_seconds is None else {"reservation_ttl_seconds": ttl_seconds})
    return {
        "event": "policy_loaded",
        "schema_version": "0.1.0",
        "timestamp": stamp(at_seconds),
        "policy_hash": f"policy-of-{ttl_seconds}",
        "policy_text": json.dumps(written) if text is None else text,
    }


@pytest.mark.parametrize(
    ("named", "policies", "lives_seconds"),
    [
        ("policy-of-60.0", [loaded(-9, 60.0), loaded(-5, 300.5)], 60),
        (None, [loaded(-9, 60.0), loaded(-5, 300.5), loaded(5, 7.0)], 300.5),
        (None, [loaded(5, 7.0)], 900),
        ("policy-of-None", [loaded(-9, None)], 900),
        ("another", [loaded(-9, 60.0)], 900),
        ("policy-of-60.0", [loaded(-9, 60.0, text="rules: [")], 900),
    ],
)
def test_a_decision_without_an_expiry_lapses_by_the_policy_in_force(
    tmp_path: Path, named: str | None, policies: list[dict[str, Any]], lives_seconds: float
) -> None:
    line = decision_line(0, 0.005) | {"policy_hash": named}
    del line["reservation_expires_at"]
    for look_at, state in ((lives_seconds - 0.000001, "reserved"), (lives_seconds, "lapsed")):
        [(seen, *_)] = facts_of(tmp_path / state, [*policies, line], [], look_at)
        assert seen == state


def test_the_logs_own_now_is_the_latest_instant_of_either_log() -> None:
    with staged([{"at_seconds": 5}], [{"at_seconds": 9}]) as con:
        assert log_time(con) == STAGED_START + timedelta(seconds=9)
    with staged() as con:
        assert log_time(con) is None
        assert build_fct_requests(con, NO_ECONOMICS) is None
        assert con.execute("SELECT count(*) FROM marts.fct_requests").fetchall() == [(0,)]


def test_the_same_logs_give_the_same_facts() -> None:
    rows = [{"cost_usd": "0.000000001", "repeat": 50}, {"cost_usd": None, "at_seconds": 99}]
    tables = []
    for _ in range(2):
        with staged(rows, [{"request_id": "stg_requests-3", "reserved_cost_usd": 0.5}]) as con:
            build_fct_requests(con, NO_ECONOMICS)
            tables.append(con.execute("SELECT * FROM marts.fct_requests ORDER BY request_id").fetchall())
    assert tables[0] == tables[1]


REVENUE = {
    "revenue": [
        {"revenue_per_request_usd": 0.001},
        {"route_name": "/r", "revenue_per_request_usd": 0.002},
        {"feature_id": "f", "revenue_per_request_usd": 0.003},
        {"tenant_id": "t", "revenue_per_request_usd": 0.004},
        {"feature_id": "f", "route_name": "/r", "revenue_per_request_usd": 0.005},
        {"tenant_id": "t", "route_name": "/r", "revenue_per_request_usd": 0.006},
        {"tenant_id": "t", "feature_id": "f", "revenue_per_request_usd": 0.007},
        {"tenant_id": "t", "feature_id": "f", "route_name": "/r", "revenue_per_request_usd": 0.008},
    ]
}


@pytest.mark.parametrize(
    ("tenant_id", "feature_id", "route_name", "rules", "expected"),
    [
        ("t", "f", "/r", 8, "0.008"),  # three keys beat two
        ("t", "f", "/r", 7, "0.007"),  # of two keys: tenant and feature
        ("t", "f", "/r", 6, "0.006"),  # then tenant and route
        ("t", "f", "/r", 5, "0.005"),  # then feature and route
        ("t", "f", "/r", 4, "0.004"),  # of one key: tenant
        ("t", "f", "/r", 3, "0.003"),  # then feature
        ("t", "f", "/r", 2, "0.002"),  # then route
        ("u", "g", "/s", 8, "0.001"),  # a rule without keys holds for all
        ("u", None, "/r", 8, "0.002"),
        ("u", None, None, 8, "0.001"),
    ],
)
def test_the_most_specific_revenue_rule_counts(
    tenant_id: str, feature_id: str | None, route_name: str | None, rules: int, expected: str
) -> None:
    economics = load_economics({"revenue": REVENUE["revenue"][:rules]})
    row = {"tenant_id": tenant_id, "feature_id": feature_id, "route_name": route_name, "cost_usd": "0.001"}
    with staged([row]) as con:
        build_fct_requests(con, economics)
        [(revenue, margin)] = con.execute("SELECT revenue_usd, margin_usd FROM marts.fct_requests").fetchall()
    assert revenue == Decimal(expected)
    assert margin == Decimal(expected) - Decimal("0.001")


def test_a_failure_earns_nothing_and_an_unmatched_request_is_unknown() -> None:
    economics = load_economics({"revenue": [{"tenant_id": "t", "revenue_per_request_usd": 0.5}]})
    rows = [
        {"tenant_id": "t", "cost_usd": "0.1", "is_success": False},
        {"tenant_id": "u", "cost_usd": "0.1"},
        {"tenant_id": "t", "cost_usd": None},
    ]
    with staged(rows, [{"tenant_id": "t", "decision": "deny"}]) as con:
        build_fct_requests(con, economics)
        facts = con.execute(
            "SELECT revenue_usd, margin_usd FROM marts.fct_requests ORDER BY request_id DESC"
        ).fetchall()
    assert facts == [
        (Decimal("0.500000000"), None),
        (None, None),
        (Decimal(0), Decimal("-0.100000000")),
        (None, None),  # the denied request
    ]


def test_attribution_comes_from_telemetry_first() -> None:
    decision = {"request_id": "x", "tenant_id": "of-decision", "feature_id": "d", "charged_namespace": "n"}
    with staged([{"request_id": "x", "tenant_id": "of-telemetry"}], [decision]) as con:
        build_fct_requests(con, NO_ECONOMICS)
        seen = con.execute(
            "SELECT tenant_id, feature_id, charged_namespace, has_telemetry FROM marts.fct_requests"
        ).fetchall()
    assert seen == [("of-telemetry", "d", "n", True)]
