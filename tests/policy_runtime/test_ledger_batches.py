"""Bills folded together come to what they come to one by one, whatever the rules, the labels and the order."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from llmscope.telemetry_batch import BatchReader
from llmscope.telemetry_line import read_usage
from llmscope.timestamps import MICROS, parse_micros
from policy_runtime import PolicyRuntime, history
from policy_runtime.folded_decisions import fold_decision_line
from policy_runtime.ledger import Ledger
from policy_runtime.ledger_state import LedgerCopy, LedgerState
from policy_runtime.policy import Policy
from policy_runtime.recent_ids import RecentIds
from policy_runtime.windows import RollingWindow
from tests.policy_runtime.log_lines import decision_line, encode, original_line, stamp
from tests.policy_runtime.starting import start
from tests.policy_runtime.test_properties import POLICY, RULES, SLOW, instant_of
from tests.policy_runtime.traffic import Traffic, readings

WITH_MEANS = Policy.model_validate(
    {
        **POLICY.model_dump(mode="json", exclude={"namespaces"}),
        "namespaces": {
            "default": {
                "rules": [
                    *RULES,
                    {
                        "id": "odd",
                        "primitive": "cost_anomaly",
                        "feature_id": "chat",
                        "threshold_multiplier": 3.0,
                    },
                ]
            },
            "team": {"rules": [{**RULES[0], "id": "team-hour", "per": ["caller_id", "experiment_id"]}]},
        },
    }
)


def traffic_lines(rng: random.Random, count: int, kinds: int) -> tuple[list[bytes], list[bytes], int]:
    """(decisions, bills, when they end): some bills governed, late, lapsed, in disorder, unknown or dated far
    in the future."""
    some: list[dict[str, Any]] = [
        {
            "tenant_id": rng.choice("ab"), "feature_id": rng.choice(("chat", "search")),
            "budget_namespace": rng.choice((None, "team", "unlisted")), "caller_id": rng.choice((None, "c")),
            "status": rng.choice(("success", "success", "error")), "route": rng.choice(("/a", "/answer-routed")),
        }
        for _ in range(kinds)
    ]  # fmt: skip
    decisions, bills = [], []
    seconds = 0.0
    for number in range(count):
        seconds += rng.choice((0.0, 0.1, 2.0, 300.0))
        labels = rng.choice(some)
        if rng.random() < 0.4:
            named = {name: labels[name] for name in ("tenant_id", "feature_id", "budget_namespace")}
            changes: dict[str, Any] = {"reserved_tokens": 300, "estimated_cost_usd": 0.002, **named}
            decisions.append(encode(decision_line(seconds, 0.004, f"r{number}", **changes)))
        cost = None if rng.random() < 0.1 else rng.randrange(10**8) / 1e9
        later = rng.choice((0, 1, 1, 1000, 4000, -20, 900_000))
        tokens_out = rng.choice((None, 0, 50))
        line = original_line(seconds + later, cost, f"r{number}", tokens_out=tokens_out, **labels)
        bills.append(encode(line))
    return decisions, bills, parse_micros(stamp(seconds))


def pieces(rng: random.Random, lines: list[bytes]) -> Iterable[list[bytes]]:
    begin = 0
    while begin < len(lines):
        end = begin + rng.choice((1, 3, 40, 200))
        yield lines[begin:end]
        begin = end


def fold_together(ledger: Ledger, reader: BatchReader, lines: list[bytes]) -> None:
    bills = reader.read(b"".join(line + b"\n" for line in lines))
    assert bills is not None
    assert ledger.bill_all(bills, reader.likes)


def fold_each(ledger: Ledger, lines: list[bytes]) -> None:
    for line in lines:
        usage = read_usage(line, "")
        assert usage is not None
        ledger.bill(usage)


def everything(ledger: Ledger, now_us: int) -> LedgerState:
    """All that a ledger holds, in an order that does not depend on which account was opened first."""
    ledger.advance(now_us)
    for books in ("default", "team"):
        for book in ledger.books(books):
            for limit in book.meters:
                for meter in limit.by_scope.values():
                    meter.read(now_us)
    state = LedgerCopy(ledger).state()
    for meters in state.meters:
        meters.sort(key=lambda meter: meter.scope)
        for meter in meters:
            meter.spent.sort()
    for means in state.means:
        means.sort(key=lambda mean: str(mean.key))
    for held in (*state.open, *state.lapsed):
        held.postings.clear()  # numbered by the order of meters
    return state


def both_ways(seed: int, kinds: int) -> None:
    rng = random.Random(seed)
    decisions, bills, latest_us = traffic_lines(rng, 400, kinds)
    together, each, reader = Ledger(WITH_MEANS), Ledger(WITH_MEANS), BatchReader()
    for ledger in (together, each):
        for line in decisions:
            fold_decision_line(ledger, line)
    for piece in pieces(rng, bills):
        fold_together(together, reader, piece)
        fold_each(each, piece)
        if rng.random() < 0.2:
            now_us = min(instant_of(piece[-1]), latest_us)
            together.advance(now_us)
            each.advance(now_us)
    for later in (0, 900, 3601, 90_000):
        now_us = latest_us + later * MICROS
        assert everything(together, now_us) == everything(each, now_us)


@settings(max_examples=200 if SLOW else 20, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 10**9), kinds=st.sampled_from((1, 2, 30)))
def test_bills_together_equal_bills_one_by_one(seed: int, kinds: int) -> None:
    both_ways(seed, kinds)


@pytest.mark.parametrize("wrong", ["one amount too few", "the request counted again", "an account left out"])
@pytest.mark.parametrize("kinds", [1, 30])
def test_twin_any_slip_is_seen(monkeypatch: pytest.MonkeyPatch, wrong: str, kinds: int) -> None:
    if wrong == "one amount too few":
        whole = RollingWindow.add_all
        monkeypatch.setattr(
            RollingWindow, "add_all", lambda self, parts, each=0: whole(self, parts[1:], each)
        )  # fmt: skip
    elif wrong == "the request counted again":
        settle = Ledger._settle

        def forgets(self: Ledger, *request: Any) -> bool:
            return settle(self, *request) and False

        monkeypatch.setattr(Ledger, "_settle", forgets)
        monkeypatch.setattr(Ledger, "bill", _bill_with(settle))
    else:
        accounts = Ledger._accounts_of_kind
        monkeypatch.setattr(Ledger, "_accounts_of_kind", lambda self, like: accounts(self, like)[:-1])
    with pytest.raises(AssertionError):
        both_ways(5, kinds)


def _bill_with(settle: Any) -> Any:
    bill = Ledger.bill

    def billed(self: Ledger, usage: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ledger, "_settle", settle)
            bill(self, usage)

    return billed


def test_bills_of_which_one_is_not_new_change_nothing_together() -> None:
    lines = [encode(original_line(number, 0.001, f"r{number}")) for number in range(20)]
    for known, late in ((lines[:1], lines), ([], [*lines, lines[3]])):
        ledger, untouched, reader = Ledger(POLICY), Ledger(POLICY), BatchReader()
        fold_each(ledger, known)
        fold_each(untouched, known)
        bills = reader.read(b"".join(line + b"\n" for line in late))
        assert bills is not None
        assert not ledger.bill_all(bills, reader.likes)
        now_us = instant_of(lines[-1])
        assert everything(ledger, now_us) == everything(untouched, now_us)


@pytest.mark.usefixtures("small_probes")
@settings(
    max_examples=60 if SLOW else 8,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**9))
def test_a_gate_that_folds_together_reads_what_one_reads_that_does_not(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Duplicates, torn and odd lines included: what cannot be folded together is folded one by one."""
    traffic = Traffic(tmp_path_factory.mktemp("logs"), random.Random(seed))
    for _ in range(400):
        traffic.step()
    read = []
    for least in (1, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(history, "_BATCH_FROM_BYTES", least)
            ledger, now_us = start(traffic)
        read.append(readings(ledger, now_us))
    assert read[0] == read[1]


def test_what_the_gate_itself_writes_is_read_together(tmp_path: Path) -> None:
    """Else the fast way would be taken by nobody."""
    gate = PolicyRuntime(POLICY, telemetry_path=tmp_path / "t.jsonl", decisions_path=tmp_path / "d.jsonl")
    for bill in (
        {"tokens_in": 10, "tokens_out": 5},
        {"cost_usd": 0.01},
        {"cost_usd": 0.01, "finish_reason": "stop"},
    ):
        with gate.admit(route_name="/answer-routed", model_tier="cheap", tokens_in=10) as admission:
            admission.settle(**bill)
    gate.close()
    bills = BatchReader().read((tmp_path / "t.jsonl").read_bytes())
    assert bills is not None
    assert len(bills.request_ids) == 3


def test_ids_added_together_are_forgotten_like_ids_added_one_by_one() -> None:
    together, each = RecentIds(40), RecentIds(40)
    rng = random.Random(1)
    for begin in range(0, 400, 7):
        ids = {f"id-{number}" for number in range(begin, begin + 7)}
        assert not together.knows_any(ids)
        together.add_all(ids)
        for request_id in ids:
            each.add(request_id)
        latest = {f"id-{number}" for number in range(max(0, begin - 28), begin + 7)}
        assert all(request_id in together for request_id in latest)
        assert together.knows_any({rng.choice(sorted(latest)), "new"})
    assert [f"id-{number}" in together for number in range(350)].count(True) < 20
    restored = RecentIds(40)
    restored.restore(together.copy().digests())
    assert restored.knows_any({"id-400"})
    assert not restored.knows_any({"id-1000"})
