"""The gate's fold: every transition of the table, any chunking, duplicates, scopes, late bills."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope.timestamps import parse_micros
from policy_runtime.folded_decisions import fold_decision_line
from policy_runtime.ledger import Ledger
from policy_runtime.meters import Meters, TooManyScopes
from policy_runtime.policy import Policy
from tests.policy_runtime.log_lines import decision_line, encode, lines_of, original_line, stamp
from tests.settlement_table import TRANSITIONS, Transition

POLICY: dict[str, Any] = {
    "namespaces": {
        "default": {
            "rules": [
                {
                    "id": "cap",
                    "primitive": "budget_threshold",
                    "period": "daily",
                    "limit_usd": 1.0,
                    "action": "deny",
                }
            ]
        }
    }
}


def ledger_of(policy: dict[str, Any] = POLICY, **options: Any) -> Ledger:
    return Ledger(Policy.model_validate(policy), **options)


def fold(ledger: Ledger, decisions: list[dict[str, Any]], bills: list[dict[str, Any]]) -> None:
    from llmscope.telemetry_line import read_usage

    for decision in decisions:
        fold_decision_line(ledger, encode(decision))
    for bill in bills:
        usage = read_usage(encode(bill), "line:x:0")
        assert usage is not None
        ledger.bill(usage)


def reading(ledger: Ledger, at_seconds: float, scope: tuple[str, ...] = ("default",)) -> tuple[int, int, int]:
    now_us = parse_micros(stamp(at_seconds))
    ledger.advance(now_us)
    return tuple(ledger.books("default")[0].meters[0].meter(scope, now_us).read(now_us))


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: row.name)
def test_the_fold_comes_to_what_the_table_says(row: Transition) -> None:
    ledger = ledger_of()
    fold(ledger, *lines_of(row))
    assert reading(ledger, row.look_at_seconds) == (row.spent_nano, row.reserved_nano, row.lapsed_nano)


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: row.name)
def test_looking_in_between_changes_nothing(row: Transition) -> None:
    """Advancing time after every event, as a busy gate does, ends in the same state."""
    ledger = ledger_of()
    decisions, bills = lines_of(row)
    fold(ledger, decisions, [])
    for bill, line in zip(row.bills, bills, strict=True):
        reading(ledger, min(bill.at_seconds, row.look_at_seconds))
        fold(ledger, [], [line])
    assert reading(ledger, row.look_at_seconds) == (row.spent_nano, row.reserved_nano, row.lapsed_nano)


def test_a_fold_without_the_release_of_reservations_is_seen_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "_release", lambda self, request_id: None)
    settled = next(row for row in TRANSITIONS if row.name == "settled_below_its_reservation")
    with pytest.raises(AssertionError):
        test_the_fold_comes_to_what_the_table_says(settled)


def events_strategy() -> st.SearchStrategy[list[tuple[str, int, int, int]]]:
    """(kind, request number, second, amount in micro-USD)."""
    kinds = st.sampled_from(["admit", "bill", "unknown", "deny"])
    return st.lists(
        st.tuples(kinds, st.integers(0, 8), st.integers(0, 4000), st.integers(0, 9000)), max_size=40
    )


def to_lines(events: list[tuple[str, int, int, int]]) -> list[tuple[str, dict[str, Any]]]:
    lines: list[tuple[str, dict[str, Any]]] = []
    for kind, number, second, micro in sorted(events, key=lambda event: event[2]):
        request_id = f"r{number}"
        if kind in ("admit", "deny"):
            reserved = micro / 1e6 if kind == "admit" else None
            word = "allow" if kind == "admit" else "deny"
            lines.append(("decision", decision_line(second, reserved, request_id, decision=word)))
        else:
            lines.append(
                ("bill", original_line(second, None if kind == "unknown" else micro / 1e6, request_id))
            )
    return lines


@settings(max_examples=150, deadline=None)
@given(events_strategy(), st.lists(st.integers(0, 40), max_size=6))
def test_incremental_equals_recompute(events: list[tuple[str, int, int, int]], looks: list[int]) -> None:
    """Looking at any point in between (which lapses reservations and drops buckets) changes no later state."""
    lines = to_lines(events)
    at_once, in_pieces = ledger_of(), ledger_of()
    for kind, line in lines:
        fold(at_once, *(([line], []) if kind == "decision" else ([], [line])))
    for index, (kind, line) in enumerate(lines):
        fold(in_pieces, *(([line], []) if kind == "decision" else ([], [line])))
        if index in looks:
            in_pieces.advance(parse_micros(line["timestamp"]))
    for second in (0, 1000, 4000, 4900, 5200, 90_000):
        if not lines or second >= 4000:
            assert reading(in_pieces, second) == reading(at_once, second)


def test_a_bill_repeated_within_the_horizon_counts_once_and_beyond_it_again() -> None:
    ledger = ledger_of(duplicate_horizon=3)
    fold(ledger, [], [original_line(1, 0.01, "first")])
    fold(ledger, [], [original_line(2, 0.0, f"other-{n}") for n in range(2)])
    fold(ledger, [], [original_line(3, 0.01, "first")])
    assert reading(ledger, 10)[0] == 10_000_000
    fold(ledger, [], [original_line(4, 0.0, f"more-{n}") for n in range(6)])
    fold(ledger, [], [original_line(5, 0.01, "first")])
    assert reading(ledger, 10)[0] == 20_000_000


def test_estimates_are_compared_with_what_was_billed_in_time() -> None:
    ledger = ledger_of()
    for number, billed_after in enumerate((1, 899, 900)):
        decision = decision_line(
            0, 0.5, f"r{number}", estimated_cost_usd=0.25, model="gpt-4o", effective_model_tier="expensive"
        )
        fold(ledger, [decision], [original_line(billed_after, 0.125, f"r{number}")])
    fold(ledger, [decision_line(0, 0.5, "unpriced")], [original_line(1, 0.125, "unpriced")])
    fold(ledger, [], [original_line(1, 0.125, "ungoverned")])
    reading(ledger, 1000)
    assert list(ledger.estimates()) == [
        (("/answer-routed", "gpt-4o", "expensive"), 2, [500_000_000, 1_000_000_000, 250_000_000])
    ]
    reading(ledger, 25 * 3600 + 1000)
    assert list(ledger.estimates()) == []


def test_what_names_an_unknown_or_a_known_request_again_changes_nothing() -> None:
    ledger = ledger_of()
    fold(
        ledger,
        [decision_line(0, 0.005, "open"), decision_line(0, 0.005, "paid")],
        [original_line(1, 0.002, "paid")],
    )
    before = reading(ledger, 10)
    assert before == (2_000_000, 5_000_000, 0)
    extension = {
        "event": "reservation_extended",
        "timestamp": stamp(2),
        "reservation_expires_at": stamp(3000),
    }
    fold(
        ledger,
        [
            decision_line(3, 0.5, "open"),
            decision_line(3, 0.5, "paid"),
            decision_line(3, None, "denied", decision="deny"),
            {**extension, "request_id": "never"},
            {**extension, "request_id": "paid"},
            extension,
            {"event": "something_new", "timestamp": stamp(2), "request_id": "open"},
        ],
        [original_line(4, None, "never"), original_line(4, 0.5, "paid"), original_line(4, None, "denied")],
    )
    assert reading(ledger, 10) == before
    assert reading(ledger, 899) == before
    assert reading(ledger, 900) == (2_000_000, 0, 5_000_000)


def test_money_is_attributed_by_the_tags_of_the_original(tmp_path: Any) -> None:
    policy = {
        "namespaces": {
            "default": {"rules": []},
            "research": {"rules": [{**POLICY["namespaces"]["default"]["rules"][0], "per": ["feature_id"]}]},
        }
    }
    ledger = ledger_of(policy)
    tags = {"budget_namespace": "research", "feature_id": "summarize"}
    fold(ledger, [], [original_line(1, 0.25, "a", audit_tags=tags), original_line(2, 0.5, "b")])
    now_us = parse_micros(stamp(10))
    meters = ledger.books("research")[0].meters[0]
    assert {scope: meter.read(now_us).spent for scope, meter in meters.by_scope.items()} == {
        ("research", "summarize"): 250_000_000
    }


def test_idle_scopes_are_dropped_and_a_new_one_past_the_bound_is_an_error() -> None:
    policy = Policy.model_validate({**POLICY, "max_scopes": 2})
    rule = policy.namespaces["default"].rules[0]
    meters = Meters("nano_usd", rule, rule.longest_us, policy)  # type: ignore[arg-type,union-attr]
    day_us = 86_400_000_000
    start = parse_micros(stamp(0))
    meters.meter(("a",), start).window.add(start, 5)
    meters.meter(("b",), start).window.add(start, 5)
    with pytest.raises(TooManyScopes):
        meters.meter(("c",), start)
    later = start + 2 * day_us
    meters.meter(("c",), later).window.add(later, 5)
    assert set(meters.by_scope) == {("c",)}


def test_windows_slide_as_brute_force_says() -> None:
    """The rolling sum is never below the true one, and above it by at most what one bucket holds."""
    from policy_runtime.windows import RollingWindow

    rng = random.Random(7)
    period_us = 3600_000_000
    window = RollingWindow(period_us)
    start = parse_micros(stamp(0))
    events: list[tuple[int, int]] = []
    now = start
    for _ in range(3000):
        now += rng.randrange(0, 20_000_000)
        at = now - rng.randrange(0, 60_000_000)
        amount = rng.randrange(0, 1000)
        events.append((at, amount))
        window.add(at, amount)
        true = sum(amount for at, amount in events if at > now - period_us)
        with_bucket = sum(amount for at, amount in events if at > now - period_us - window.bucket_us)
        assert true <= window.total_at(now) <= with_bucket
