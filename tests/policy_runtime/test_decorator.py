"""`governed`: decided before the call, settled from what came back, never twice, mistakes told when decorating."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llmscope import LLMRequestContext, VirtualClock
from llmscope.errors import EventLogError
from policy_runtime import Admission, PolicyDenied, PolicyRuntime, governed
from tests.policy_runtime.log_lines import START, read_lines

# gpt-4o: 2.50 and 10 USD per million tokens; 1,000 in and at most 500 out reserve 0.0025 + 0.005 USD.
WORST_CASE_USD = 0.0075
ASKED: dict[str, Any] = {"route_name": "/answer-routed", "model_tier": "expensive"}
BILL = {"tokens_in": 1000, "tokens_out": 100}
BILL_USD = 0.0035


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[PolicyRuntime]:
    cap = {
        "id": "cap",
        "primitive": "budget_threshold",
        "period": "hourly",
        "limit_usd": 2 * WORST_CASE_USD,
        "action": "deny",
    }
    gate = PolicyRuntime(
        {"namespaces": {"default": {"rules": [cap]}}},
        telemetry_path=tmp_path / "t.jsonl",
        decisions_path=tmp_path / "d.jsonl",
        clock=VirtualClock(START + timedelta(seconds=60)),
    )
    yield gate
    gate.close()


def money(gate: PolicyRuntime) -> tuple[float, float]:
    window = gate.live_windows()[0]
    return window.spent, window.reserved


def logs(tmp_path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    decisions = [line for line in read_lines(tmp_path / "d.jsonl") if "event" not in line]
    return decisions, read_lines(tmp_path / "t.jsonl")


def test_it_decides_hands_over_the_admission_and_settles_from_the_answer(
    gate: PolicyRuntime, tmp_path: Path
) -> None:
    seen: list[tuple[float, float]] = []

    @governed(gate, **ASKED, tokens_in=1000, usage=lambda reply: reply["bill"])
    def answer(question: str, *, admission: Admission) -> dict[str, Any]:
        seen.append(money(gate))
        return {"text": f"{question} {admission.model} {admission.max_output_tokens}", "bill": BILL}

    assert answer("why?")["text"] == "why? gpt-4o 500"
    assert seen == [(0, WORST_CASE_USD)]
    assert money(gate) == (BILL_USD, 0)
    (decision,), (line,) = logs(tmp_path)
    assert decision["request_id"] == line["request_id"]
    assert line["estimated_cost_usd"] == BILL_USD


async def test_a_coroutine_function_is_governed_alike(gate: PolicyRuntime, tmp_path: Path) -> None:
    @governed(gate, **ASKED, tokens_in=1000, usage=lambda reply: BILL)
    async def answer(question: str, *, admission: Admission) -> str:
        return f"{question} {admission.model}"

    assert inspect.iscoroutinefunction(answer)
    assert await answer("why?") == "why? gpt-4o"
    assert money(gate) == (BILL_USD, 0)
    assert [len(log) for log in logs(tmp_path)] == [1, 1]


def test_a_denied_call_is_never_made(gate: PolicyRuntime, tmp_path: Path) -> None:
    calls: list[str] = []

    @governed(gate, **ASKED, tokens_in=1000)
    def answer(question: str, *, admission: Admission) -> None:
        calls.append(admission.request_id)

    answer("1")
    answer("2")
    with pytest.raises(PolicyDenied):
        answer("3")
    assert len(calls) == 2
    assert [decision["decision"] for decision in logs(tmp_path)[0]] == ["allow", "allow", "deny"]


def test_a_function_that_settles_itself_is_not_settled_again(gate: PolicyRuntime, tmp_path: Path) -> None:
    read: list[Any] = []

    @governed(gate, **ASKED, tokens_in=1000, usage=read.append)
    def answer(*, admission: Admission) -> str:
        admission.settle(cost_usd=0.001)
        return "text"

    assert answer() == "text"
    assert read == []
    assert money(gate) == (0.001, 0)
    assert len(logs(tmp_path)[1]) == 1


def test_twin_a_settlement_that_forgets_it_was_made_would_bill_twice(
    gate: PolicyRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Admission, "settled", False)
    real_write = Admission._write

    def forgetful(self: Admission, line: bytes) -> None:
        real_write(self, line)
        self._settled = False

    monkeypatch.setattr(Admission, "_write", forgetful)
    with pytest.raises(AssertionError):
        test_a_function_that_settles_itself_is_not_settled_again(gate, tmp_path)


@pytest.mark.parametrize("usage", [None, lambda reply: None])
def test_without_a_bill_the_reservation_stands(gate: PolicyRuntime, tmp_path: Path, usage: Any) -> None:
    @governed(gate, **ASKED, tokens_in=1000, usage=usage)
    def answer(*, admission: Admission) -> str:
        return "text"

    assert answer() == "text"
    assert money(gate) == (0, WORST_CASE_USD)
    assert logs(tmp_path)[1] == []


@pytest.mark.parametrize("usage", [lambda reply: reply.usage.input_tokens, lambda reply: {"tokens_in": 5}])
def test_a_paid_answer_is_not_lost_to_a_usage_that_fails(
    gate: PolicyRuntime, caplog: pytest.LogCaptureFixture, usage: Any
) -> None:
    @governed(gate, **ASKED, tokens_in=1000, usage=usage)
    def answer(*, admission: Admission) -> str:
        return "text"

    with caplog.at_level(logging.ERROR, logger="policy_runtime"):
        assert answer() == "text"
    assert "is not settled, its reservation stands" in caplog.text
    assert money(gate) == (0, WORST_CASE_USD)


async def test_a_function_that_raises_is_billed_as_far_as_it_is_known(
    gate: PolicyRuntime, tmp_path: Path
) -> None:
    refused = type("RateLimitError", (Exception,), {"status_code": 429})

    @governed(gate, **ASKED, tokens_in=1000, usage=lambda reply: BILL)
    def busy(*, admission: Admission) -> str:
        raise refused

    @governed(gate, **ASKED, tokens_in=1000, usage=lambda reply: BILL)
    async def slow(*, admission: Admission) -> str:
        raise TimeoutError

    with pytest.raises(refused):
        busy()
    assert money(gate) == (0, 0)
    with pytest.raises(TimeoutError):
        await slow()
    assert money(gate) == (0, WORST_CASE_USD)
    assert [(line["error_type"], line["estimated_cost_usd"]) for line in logs(tmp_path)[1]] == [
        ("rate_limit", 0),
        ("timeout", None),
    ]


def test_what_is_asked_comes_from_the_arguments_of_each_call(gate: PolicyRuntime, tmp_path: Path) -> None:
    @governed(
        lambda: gate,
        route_name="/answer-routed",
        model_tier=lambda important: "expensive" if important else "cheap",
        context=lambda user: LLMRequestContext(tenant_id=user["tenant"]),
        prompt=lambda **given: f"{given['question']} {given['extra']}",
        max_output_tokens=10,
    )
    def answer(
        question: str, user: dict[str, str], important: bool = False, *, admission: Admission, **more: str
    ) -> str:
        return admission.model_tier + more["extra"]

    assert answer("why?", {"tenant": "acme"}, extra="!") == "cheap!"
    assert answer("why?", user={"tenant": "globex"}, important=True, extra="!") == "expensive!"
    decisions, _ = logs(tmp_path)
    assert [(line["tenant_id"], line["model"]) for line in decisions] == [
        ("acme", "gpt-4o-mini"),
        ("globex", "gpt-4o"),
    ]
    assert all(line["reserved_tokens"] == line["estimated_tokens_in"] + 10 for line in decisions)


def test_prompt_and_context_are_the_arguments_of_that_name(gate: PolicyRuntime, tmp_path: Path) -> None:
    @governed(gate, **ASKED)
    def answer(
        prompt: str, context: LLMRequestContext | None = None, *, admission: Admission
    ) -> LLMRequestContext | None:
        return context

    given = LLMRequestContext(tenant_id="acme")
    assert answer("one two three", given) is given
    assert answer("one two three") is None
    assert [(line["tenant_id"], line["estimated_tokens_in"]) for line in logs(tmp_path)[0]] == [
        ("acme", 3),
        ("default", 3),
    ]


def test_a_generator_is_decided_when_iterated_and_settles_itself(gate: PolicyRuntime, tmp_path: Path) -> None:
    @governed(gate, **ASKED, tokens_in=1000)
    def stream(words: list[str], *, admission: Admission) -> Iterator[str]:
        received = 0
        try:
            for word in words:
                received += 1
                yield word
        finally:
            admission.settle(tokens_in=1000, tokens_out=received)

    chunks = stream(["a", "b", "c"])
    assert logs(tmp_path) == ([], [])
    assert list(chunks) == ["a", "b", "c"]
    cut = stream(["a", "b", "c"])
    assert next(cut) == "a"
    cut.close()
    assert [line["tokens_out"] for line in logs(tmp_path)[1]] == [3, 1]
    assert money(gate)[1] == 0


async def test_an_async_generator_too_and_a_cut_one_without_a_bill_is_unknown(
    gate: PolicyRuntime, tmp_path: Path
) -> None:
    closed: list[bool] = []

    @governed(gate, **ASKED, tokens_in=1000)
    async def stream(*, admission: Admission) -> AsyncIterator[str]:
        try:
            yield "a"
            yield "b"
        finally:
            closed.append(True)

    async with aclosing(stream()) as chunks:
        async for _ in chunks:
            break
    assert closed == [True]
    ((line,), reserved) = logs(tmp_path)[1], money(gate)[1]
    assert (line["error_type"], line["estimated_cost_usd"]) == ("cancelled", None)
    assert reserved == WORST_CASE_USD


def test_mistakes_are_told_when_decorating(gate: PolicyRuntime) -> None:
    with pytest.raises(TypeError, match=r"answer\(\) must take the keyword 'admission'"):

        @governed(gate, **ASKED, tokens_in=1)
        def answer(question: str) -> None: ...

    with pytest.raises(TypeError, match="has no argument named 'prompt'"):

        @governed(gate, **ASKED)
        def ask(question: str, *, admission: Admission) -> None: ...

    with pytest.raises(TypeError, match=r"context= asks for usr, but .* takes prompt, user"):

        @governed(gate, **ASKED, context=lambda usr: None)
        def tell(prompt: str, user: str, *, admission: Admission) -> None: ...

    with pytest.raises(TypeError, match="is a generator"):

        @governed(gate, **ASKED, usage=lambda reply: BILL)
        def stream(prompt: str, *, admission: Admission) -> Iterator[str]:
            yield prompt


def test_a_plain_function_that_returns_an_awaitable_is_refused(gate: PolicyRuntime) -> None:
    class Later:
        def __await__(self) -> Iterator[Any]:
            yield

    @governed(gate, **ASKED, tokens_in=1000, usage=lambda reply: BILL)
    def answer(*, admission: Admission) -> Later:
        return Later()

    with pytest.raises(TypeError, match="write it as `async def`"):
        answer()
    assert money(gate) == (0, WORST_CASE_USD)


async def test_a_method_is_governed_with_what_its_object_knows(gate: PolicyRuntime, tmp_path: Path) -> None:
    class Assistant:
        tenant_id = "acme"

        @governed(
            gate,
            **ASKED,
            tokens_in=1000,
            context=lambda self: LLMRequestContext(tenant_id=self.tenant_id),
            usage=lambda reply: BILL,
        )
        async def answer(self, question: str, *, admission: Admission) -> str:
            return f"{self.tenant_id}: {question}"

    assert await Assistant().answer("why?") == "acme: why?"
    (decision,), (bill,) = logs(tmp_path)
    assert (decision["tenant_id"], bill["tenant_id"]) == ("acme", "acme")


def test_callers_see_a_signature_without_the_admission(gate: PolicyRuntime) -> None:
    @governed(gate, **ASKED)
    def answer(prompt: str, *, admission: Admission, loud: bool = False) -> str:
        """Answers."""
        return prompt

    assert list(inspect.signature(answer).parameters) == ["prompt", "loud"]
    assert (answer.__name__, answer.__doc__) == ("answer", "Answers.")
    with pytest.raises(TypeError, match="admission"):
        answer("hi", admission=None)


@pytest.mark.parametrize("on_loop", [False, True])
async def test_a_log_that_cannot_be_written_loses_neither_the_answer_nor_the_callers_error(
    gate: PolicyRuntime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, on_loop: bool
) -> None:
    def full(self: Any, line: bytes, **options: Any) -> int:
        raise EventLogError(28, "No space left on device")

    monkeypatch.setattr("llmscope.event_log.LogWriter.append", full)
    monkeypatch.setattr("llmscope.event_log.LogWriter.try_append", full)
    admit = {**ASKED, "tokens_in": 1000}

    async def enter(error: Exception | None) -> str:
        if on_loop:
            async with gate.admit(**admit) as admission:
                if error is not None:
                    raise error
                admission.settle(**BILL)
                return "paid"
        with gate.admit(**admit) as admission:
            if error is not None:
                raise error
            admission.settle(**BILL)
            return "paid"

    assert await enter(None) == "paid"
    with pytest.raises(KeyError):
        await enter(KeyError("mine"))
    assert caplog.text.count("could not be written") == 2
    assert money(gate) == (0, 2 * WORST_CASE_USD)


def test_a_bill_that_could_not_be_written_may_be_settled_again(
    gate: PolicyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, line: bytes, **options: Any) -> int:
        raise EventLogError(28, "No space left on device")

    with gate.admit(**ASKED, tokens_in=1000) as admission:
        with monkeypatch.context() as broken:
            broken.setattr("llmscope.event_log.LogWriter.append", full)
            admission.settle(**BILL)
        assert not admission.settled
        admission.settle(**BILL)
    assert money(gate) == (BILL_USD, 0)
