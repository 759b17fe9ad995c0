"""What callers may put to the gate: numbers and labels of odd types either mean what the logs' readers will
read, or are refused before anything is decided."""

from __future__ import annotations

import enum
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmscope import LLMRequestContext, VirtualClock
from llmscope.gateway.tokens import estimate_tokens
from policy_runtime import PolicyDenied, PolicyFileError, asking
from policy_runtime.decision_record import decode_decision
from tests.policy_runtime.gates import ASK, budget, decisions_of, policy


class _Whole:
    """A whole number of somebody's own, as those of numerical libraries are."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value

    __int__ = __index__

    def __eq__(self, other: object) -> bool:
        return self.value == other

    __hash__ = None  # type: ignore[assignment]


class _Text(str):
    __slots__ = ()


class _Namespace(str, enum.Enum):  # noqa: UP042  as of old, whose `str()` is not its value
    TRIAL = "trial"


NO_COUNTS = [float("nan"), float("inf"), -1, 10.5, True, "1000", Decimal("NaN"), Decimal("1.5"), 10**30, [1]]


@pytest.mark.parametrize("count", NO_COUNTS, ids=repr)
@pytest.mark.parametrize("name", ["tokens_in", "max_output_tokens"])
def test_what_counts_no_tokens_is_refused_before_anything_is_decided(
    make_gate: Any, tmp_path: Path, name: str, count: Any
) -> None:
    gate = make_gate(policy(budget(1)))
    with pytest.raises(ValueError, match=f"{name} is .*; it is a whole number from [01] to 100,000,000,000"):
        gate.evaluate(**{**ASK, name: count})
    with pytest.raises(ValueError, match=name), gate.admit(**{**ASK, name: count}):
        pass
    assert not (tmp_path / "d.jsonl").exists()


@pytest.mark.parametrize("count", [1000, 1000.0, Decimal(1000), _Whole(1000)], ids=repr)
def test_a_whole_number_of_any_type_is_that_number(make_gate: Any, tmp_path: Path, count: Any) -> None:
    gate = make_gate(policy(budget(1)))
    with gate.admit(**{**ASK, "tokens_in": count, "max_output_tokens": count}) as admission:
        assert type(admission.max_output_tokens) is int
    line = (tmp_path / "d.jsonl").read_bytes().splitlines()[-1]
    assert b'"estimated_tokens_in":1000,' in line
    assert decode_decision(line).reserved_tokens == 2000


def test_without_the_look_at_numbers_one_nan_opens_a_budget_for_everybody(
    make_gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what the first test forbids."""
    monkeypatch.setattr(asking, "whole_tokens", lambda name, count, at_least=0: count)
    gate = make_gate(policy(budget(0.01)))
    for tokens_in in (float("nan"), 1000, 1000, 1000):
        with gate.admit(**{**ASK, "tokens_in": tokens_in}):
            pass
    assert not gate.live_windows()[0].reserved <= 0.01


@pytest.mark.parametrize(
    ("given", "label"),
    [(5, "5"), (0, "0"), (True, "true"), (_Whole(7), "7"), (_Text("acme"), "acme"), ("Größe", "Größe")],
    ids=repr,
)
def test_a_label_counts_as_what_its_record_says(
    make_gate: Any, tmp_path: Path, clock: VirtualClock, given: Any, label: str
) -> None:
    """Else the reservation stands under one scope, its bill under another, and neither fills the budget."""
    rules = policy(budget(0.02, per=["tenant_id"]))
    gate = make_gate(rules)
    ask = {**ASK, "context": LLMRequestContext(tenant_id=given)}
    with gate.admit(**ask) as admission:
        admission.settle(cost_usd=0.015)
    with pytest.raises(PolicyDenied), gate.admit(**ask):
        pass
    (window,) = gate.live_windows()
    assert (window.scope, window.spent, window.reserved) == ({"tenant_id": label}, 0.015, 0.0)
    assert {line["tenant_id"] for line in decisions_of(tmp_path)} == {label}
    assert make_gate(rules).live_windows() == gate.live_windows()


def test_a_member_of_an_enumeration_is_its_value_everywhere(make_gate: Any, tmp_path: Path) -> None:
    rules = {"namespaces": {"trial": {"rules": [budget(1)]}, "default": {"rules": []}}}
    gate = make_gate(rules)
    context = LLMRequestContext(tenant_id="Größe", budget_namespace=_Namespace.TRIAL)
    with gate.admit(**{**ASK, "context": context}):
        pass
    (decision,) = decisions_of(tmp_path)
    assert (decision["charged_namespace"], decision["budget_namespace"]) == ("trial", "trial")


@pytest.mark.parametrize(
    "text", ["x" * 1001, "a\ud800b", b"acme", 1.5, ["acme"]], ids=lambda text: repr(text)[:9]
)
@pytest.mark.parametrize(
    "name", ["tenant_id", "budget_namespace", "route_name", "model_tier", "model", "request_id"]
)
def test_what_no_line_could_carry_is_refused_before_anything_is_decided(
    make_gate: Any, tmp_path: Path, name: str, text: Any
) -> None:
    """A tenant of a megabyte would be let through unrecorded, for no line may be that long."""
    gate = make_gate(policy(budget(1)))
    if name in ("tenant_id", "budget_namespace"):
        ask = {**ASK, "context": LLMRequestContext(**{name: text})}
    else:
        ask = {**ASK, name: text}
    with pytest.raises(ValueError, match=name), gate.admit(**ask):
        pass
    assert not (tmp_path / "d.jsonl").exists()


def test_a_label_of_a_thousand_characters_is_carried(make_gate: Any, tmp_path: Path) -> None:
    gate = make_gate(policy(*(budget(1, per=["tenant_id"], id=f"cap-{number}") for number in range(20))))
    with gate.admit(**{**ASK, "context": LLMRequestContext(tenant_id="\x00" * 1000)}):
        pass
    assert len(decisions_of(tmp_path)) == 1


@pytest.mark.parametrize("prompt", [b"bytes", [{"role": "user", "content": "hello"}], 5], ids=repr)
def test_a_prompt_that_is_no_text_is_refused_without_quoting_it(make_gate: Any, prompt: Any) -> None:
    gate = make_gate(policy())
    with pytest.raises(ValueError, match=f"prompt is {type(prompt).__name__}, not text") as refusal:
        gate.evaluate(route_name="/answer-routed", model_tier="expensive", prompt=prompt)
    assert "hello" not in str(refusal.value)


def test_an_empty_request_id_is_none_and_gets_one(make_gate: Any) -> None:
    gate = make_gate(policy())
    ids = []
    for _ in range(2):
        with gate.admit(**{**ASK, "request_id": ""}) as admission:
            ids.append(admission.request_id)
    assert all(ids)
    assert ids[0] != ids[1]


def test_a_prompt_of_megabytes_and_of_broken_text_is_estimated(make_gate: Any) -> None:
    gate = make_gate(policy())
    for prompt in ("word " * 1_000_000, "\ud800" * 5000, "\x00" * 5000):
        assert estimate_tokens(prompt) > 0
        assert gate.evaluate(**{**ASK, "tokens_in": None, "prompt": prompt}).decision == "allow"


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, 0.0009, float("nan"), float("inf")])
def test_a_reservation_that_would_hold_nothing_is_refused(make_gate: Any, seconds: float) -> None:
    """Under a microsecond it was none at all: any number of calls at once went past the budget."""
    gate = make_gate(policy(budget(1)))
    with pytest.raises(ValueError, match=r"a reservation may last from 0\.001 s"):
        gate.admit(**ASK, ttl_seconds=seconds)
    with pytest.raises(PolicyFileError, match="reservation_ttl_seconds"):
        make_gate({**policy(budget(1)), "reservation_ttl_seconds": seconds})


@pytest.mark.parametrize("context", [{"tenant_id": "acme"}, "acme"])
def test_what_is_no_context_is_told_so(make_gate: Any, context: Any) -> None:
    with pytest.raises(
        TypeError, match=f"context is a {type(context).__name__}; it must be an LLMRequestContext"
    ):
        make_gate(policy(budget(1))).admit(**{**ASK, "context": context})
