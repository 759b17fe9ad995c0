"""Bounded memory: nothing that the gate keeps grows with scopes, ids or alerts that come and go."""

from __future__ import annotations

import os

import pytest

from llmscope.telemetry_line import read_usage
from llmscope.timestamps import MICROS, to_micros
from policy_runtime.labels import labels_for
from policy_runtime.ledger import Admitted, Ledger
from policy_runtime.meters import Meters, TooManyScopes
from policy_runtime.policy import Policy
from tests.policy_runtime.log_lines import START, encode, original_line
from tests.policy_runtime.test_properties import BUDGET, POLICY

SLOW = os.environ.get("GOVERNANCE_SLOW") == "1"


@pytest.mark.timeout(1800)
def test_memory_is_flat_over_many_events_and_scopes() -> None:
    """The ledger's own tables stay bounded by what is in the windows, whatever has gone through it."""
    events, scopes = (10_000_000, 100_000) if SLOW else (300_000, 20_000)
    policy = Policy.model_validate(
        {
            "namespaces": {
                "default": {
                    "rules": [
                        {
                            "id": "tenant",
                            "period": "hourly",
                            "per": ["tenant_id"],
                            "alert_at": [0.5],
                            **BUDGET,
                        },
                        {
                            "id": "rate",
                            "primitive": "rate_limit",
                            "requests_per_minute": 9,
                            "per": ["tenant_id"],
                        },
                        {"id": "odd", "primitive": "cost_anomaly", "baseline_window_hours": 1},
                    ]
                }
            }
        }
    )
    ledger = Ledger(policy, duplicate_horizon=10_000)
    now_us = to_micros(START)
    usage = read_usage(encode(original_line(0, 0.001)), "")
    assert usage is not None
    import msgspec

    rule = policy.namespaces["default"].rules[0]
    high = dict.fromkeys(("meters", "rate", "open", "lapsed", "expiries", "alerts", "means"), 0)
    per_hour = 50_000  # events in the longest window: the bound on everything below
    for number in range(events // 2):
        now_us += 3600 * MICROS * 2 // per_hour
        labels = labels_for(
            f"tenant-{number % scopes}-{number // per_hour}", None, None, f"f{number}", None, "/r", None
        )
        ledger.admit(Admitted(f"r{number}", now_us, 1000, 10, now_us + 900 * MICROS, labels))
        if number % 3:
            bill = msgspec.structs.replace(
                usage, request_id=f"r{number}", timestamp_us=now_us, tenant_id=labels.tenant_id,
                feature_id=labels.feature_id, route_name=f"/route-{number}",
            )  # fmt: skip
            ledger.bill(bill)
        if number % 7 == 0:
            ledger.alerted(rule.id, ("default", labels.tenant_id), 0.5, now_us, 0)
        ledger.advance(now_us)
        if number % 5000 == 0:
            books = ledger.books("default")
            sizes = (
                len(books[0].meters[0].by_scope), len(books[1].meters[0].by_scope), len(ledger._open),
                len(ledger._lapsed), len(ledger._expiries), len(ledger._last_alerts),
                len(ledger._route_costs._by_key),
            )  # fmt: skip
            for name, size in zip(high, sizes, strict=True):
                high[name] = max(high[name], size)
    assert sum(ledger.is_settled(f"r{number}") for number in range(events // 2)) <= 20_000
    for name, size in high.items():
        assert size <= 3 * per_hour, (name, high)
    assert high["rate"] <= 2 * per_hour


def test_scopes_past_the_bound_are_refused_without_looking_through_all_of_them_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = Policy.model_validate({**POLICY.model_dump(), "max_scopes": 50})
    rule = policy.namespaces["default"].rules[1]
    meters = Meters("nano_usd", rule, 3600 * MICROS, policy)  # type: ignore[arg-type]
    sweeps: list[int] = []
    sweep = Meters._sweep
    monkeypatch.setattr(Meters, "_sweep", lambda self, now_us: (sweeps.append(now_us), sweep(self, now_us)))
    now_us = to_micros(START)
    for number in range(50):
        meters.meter((str(number),), now_us).window.add(now_us, 1)
    for number in range(1000):
        with pytest.raises(TooManyScopes):
            meters.meter((f"more-{number}",), now_us + number * 3000)
    assert len(sweeps) == 3  # once a second
    later = now_us + 2 * 3600 * MICROS
    assert meters.meter(("at last",), later).read(later) == (0, 0, 0)


def test_alert_marks_do_not_pile_up_with_scopes_that_come_and_go() -> None:
    ledger = Ledger(POLICY)
    start_us = to_micros(START)
    for number in range(20_000):
        ledger.alerted("tenant-feature", ("default", str(number)), 0.5, start_us + number * 3600 * MICROS, 0)
    assert len(ledger._last_alerts) < 3000
    assert not ledger.alert_is_due(
        POLICY.namespaces["default"].rules[1],
        ("default", "19999"),
        0.5,
        0,  # type: ignore[arg-type]
    )
