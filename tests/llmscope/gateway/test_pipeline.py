"""The stages in their order, with parts that do the least: what each leaves on the line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import llmscope
from llmscope import (
    ContextTooLargeError,
    GuardBlocked,
    LLMRequestContext,
    ProviderResponse,
    RoutePolicy,
    VirtualClock,
)
from llmscope.gateway.runtime import Runtime, use_runtime
from llmscope.gateway.stages import (
    CachedAnswer,
    CacheOutcome,
    CacheQuery,
    Direction,
    FittedContext,
    GuardVerdict,
    RouteParts,
    RoutingChoice,
    RoutingRequest,
    Target,
)
from llmscope.telemetry_line import read_usage
from tests.llmscope.gateway.test_attempts import Recording
from tests.llmscope.gateway.test_client import GOOD, START, route, usage_of
from tests.llmscope.scripted import ScriptedError, ScriptedProvider, events

STEPS: list[str] = []


class Joined:
    """A context that joins the turns."""

    max_context_tokens = 100

    async def fit(self, history: Sequence[str], message: str) -> FittedContext:
        STEPS.append("context")
        return FittedContext("|".join([*history, message]), 3, "full", 0)


class Shouting:
    """A guard that writes in capitals, and blocks what it is told to."""

    def __init__(self, blocks: Direction | None = None) -> None:
        self.blocks = blocks

    async def check(self, text: str, direction: Direction) -> GuardVerdict:
        STEPS.append(f"guard {direction}")
        if direction == self.blocks:
            return GuardVerdict("block", text, ("swearing",))
        return GuardVerdict("redact", text.upper(), ("email",), has_pii=True)

    def stream(self) -> None:
        return None


class Shelf:
    """A cache in a dict."""

    def __init__(self) -> None:
        self.kept: dict[CacheQuery, CachedAnswer] = {}

    async def answer(
        self, query: CacheQuery, buy: Callable[[], Awaitable[CachedAnswer]], now_seconds: float
    ) -> CacheOutcome:
        STEPS.append("cache")
        if query in self.kept:
            return CacheOutcome(self.kept[query], True, "exact", "ab12", "sha256", 1.0)
        bought = await buy()
        if bought.is_cacheable:
            self.kept[query] = bought
        return CacheOutcome(bought, False, "exact", "ab12", "sha256", None)


class Router(Recording):
    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice:
        STEPS.append("route")
        self.request = request
        return super().choose(request, now_seconds)


class Pickiness:
    """An escalation that accepts given answers only."""

    def __init__(self, *accepted: str) -> None:
        self.accepted = accepted

    async def is_good_enough(self, prompt: str, answer: str) -> bool:
        return answer in self.accepted


@pytest.fixture(autouse=True)
def _no_steps() -> None:
    STEPS.clear()


def with_parts(**parts: Any) -> None:
    use_runtime(Runtime({"/tested": RouteParts(**parts)}))


async def test_every_stage_comes_in_its_order(log: Path) -> None:
    class Told(ScriptedProvider):
        async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
            STEPS.append(f"provider {prompt}")
            return await super().complete(prompt, model, max_output_tokens)

    name = route(Told([GOOD]))
    with_parts(
        context=Joined(), guards=(Shouting(),), cache=Shelf(), router=Router(Target("scripted", "gpt-4o"))
    )
    result = await llmscope.call_llm("and you?", "cheap", name, history=["hello", "hi"])
    assert STEPS == ["context", "guard in", "cache", "route", "provider HELLO|HI|AND YOU?", "guard out"]
    assert (result.text, result.selected_model) == ("ANSWER", "gpt-4o")


async def test_without_parts_a_line_claims_nothing_of_them(log: Path) -> None:
    await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD])))
    (event,) = events(log)
    absent = {
        "policy_input_class", "redaction_applied", "pii_detected", "cache_eligible", "cache_strategy",
        "cache_key_fingerprint", "cache_lookup_confidence", "routing_reason", "cache_saved_usd",
    }  # fmt: skip
    assert not absent & set(event)
    assert (event["cache_hit"], event["circuit_state"]) == (False, "closed")


async def test_what_guards_found_is_on_the_line_and_the_text_is_not(log: Path) -> None:
    provider = ScriptedProvider([GOOD])
    with_parts(guards=(Shouting(),))
    await llmscope.call_llm("my secret", "cheap", route(provider))
    (event,) = events(log)
    assert provider.calls[0][0] == "MY SECRET"
    assert (event["policy_input_class"], event["pii_detected"], event["redaction_applied"]) == (
        "email", True, True,
    )  # fmt: skip
    assert b"secret" not in log.read_bytes().lower()


async def test_a_blocked_prompt_is_sent_nowhere_and_costs_nothing(log: Path) -> None:
    provider = ScriptedProvider([GOOD])
    name = route(provider)
    with_parts(guards=(Shouting(blocks="in"),))
    with pytest.raises(GuardBlocked, match="the prompt was blocked by a guard: swearing"):
        await llmscope.call_llm("Hi", "cheap", name)
    (event,) = events(log)
    assert provider.calls == []
    assert (event["status"], event["error_type"], event["policy_input_class"]) == (
        "denied", "guard_blocked", "swearing",
    )  # fmt: skip
    assert usage_of(log).cost_nano == 0


async def test_a_blocked_answer_was_paid_for(log: Path) -> None:
    with_parts(guards=(Shouting(blocks="out"),))
    with pytest.raises(GuardBlocked, match="the answer"):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD])))
    (event,) = events(log)
    assert (event["status"], event["tokens_in"], event["tokens_out"]) == ("denied", 1000, 100)
    assert usage_of(log).cost_nano == 210_000  # 1,000 × 0.15 + 100 × 0.60 per million


async def test_a_context_that_does_not_fit_costs_nothing(log: Path) -> None:
    class Full:
        max_context_tokens = 8192

        async def fit(self, history: Sequence[str], message: str) -> FittedContext:
            raise ContextTooLargeError(9000, 8192, "full")

    with_parts(context=Full())
    with pytest.raises(ContextTooLargeError, match="about 9,000 tokens"):
        await llmscope.call_llm("Hi", "cheap", route(ScriptedProvider([GOOD])))
    (event,) = events(log)
    assert event["error_type"] == "context_too_large"
    assert usage_of(log).cost_nano == 0


async def test_a_hit_costs_nothing_and_tells_what_it_saved(log: Path) -> None:
    provider = ScriptedProvider([GOOD])
    name = route(provider)
    with_parts(cache=Shelf())
    bought = await llmscope.call_llm("Hi", "cheap", name)
    found = await llmscope.call_llm("Hi", "cheap", name)
    assert len(provider.calls) == 1
    assert (bought.cache_hit, found.cache_hit) == (False, True)
    assert (found.text, found.estimated_cost_usd, found.tokens_in) == ("answer", 0.0, 0)
    first, second = events(log)
    assert (first["cache_eligible"], first["cache_hit"], first["status"]) == (True, False, "success")
    assert (second["status"], second["cost_source"], second["estimated_cost_usd"]) == (
        "cached", "cached_zero", 0.0,
    )  # fmt: skip
    assert second["cache_saved_usd"] == first["estimated_cost_usd"] == 0.00021
    assert (second["cache_key_fingerprint"], second["cache_lookup_confidence"]) == ("ab12", 1.0)
    usage = read_usage(log.read_bytes().splitlines()[1], "x")
    assert (usage.cost_nano, usage.success, usage.tokens_in) == (0, True, 0)


async def test_tenants_lengths_and_models_do_not_share_answers(log: Path) -> None:
    provider = ScriptedProvider([GOOD])
    name = route(provider)
    with_parts(cache=Shelf())
    for tenant in ("a", "b"):
        await llmscope.call_llm("Hi", "cheap", name, context=LLMRequestContext(tenant_id=tenant))
    await llmscope.call_llm(
        "Hi", "cheap", name, context=LLMRequestContext(tenant_id="a"), max_output_tokens=9
    )
    await llmscope.call_llm("Hi", "cheap", name, context=LLMRequestContext(tenant_id="a"), model="gpt-4o")
    assert len(provider.calls) == 4


async def test_an_answer_that_was_cut_off_is_nobody_elses(log: Path) -> None:
    provider = ScriptedProvider([ProviderResponse("ans", 10, 500, "length")])
    name = route(provider)
    with_parts(cache=Shelf())
    for _ in range(2):
        await llmscope.call_llm("Hi", "cheap", name)
    assert len(provider.calls) == 2


async def test_the_router_decides_and_the_line_says_why(log: Path) -> None:
    name = route(ScriptedProvider([GOOD], name="a"), ScriptedProvider([GOOD], name="b"))
    router = Router(Target("b", "gpt-4o-mini"))
    with_parts(router=router)
    result = await llmscope.call_llm("Hi there", "cheap", name, model="auto", request_id="r1")
    (event,) = events(log)
    assert (result.provider, result.selected_model) == ("b", "gpt-4o-mini")
    assert (event["routing_decision"], event["routing_reason"]) == ("recorded", "a test's")
    assert (event["model_requested"], event["provider_selected"]) == ("auto", "b")
    assert (router.request.model, router.request.request_id, router.request.tokens_in) == ("auto", "r1", 2)


async def test_what_the_route_falls_back_to_follows_the_routers_choice(log: Path) -> None:
    name = route(
        ScriptedProvider([ScriptedError("timeout")], name="a"), ScriptedProvider([GOOD], name="b"), retries=0
    )
    with_parts(router=Router(Target("a", "gpt-4o-mini")))
    assert (await llmscope.call_llm("Hi", "cheap", name)).provider == "b"


def cascade(*accepted: str, second: ProviderResponse | ScriptedError = GOOD) -> str:
    clock_free = [
        ScriptedProvider([ProviderResponse("poor", 1000, 10, "stop")], name="small"),
        ScriptedProvider([second], name="large"),
    ]
    name = route(*clock_free, retries=0)
    llmscope.register_route(name, RoutePolicy(500, 0, False, {"cheap": "gpt-4o-mini"}, "small"))
    targets = (Target("small", "gpt-4o-mini"), Target("large", "gpt-4o"))
    with_parts(router=Router(*targets), escalation=Pickiness(*accepted))
    return name


async def test_a_cascade_is_one_line_with_the_cost_of_every_step(log: Path) -> None:
    result = await llmscope.call_llm("Hi", "cheap", cascade("answer"), clock=VirtualClock(START))
    (event,) = events(log)
    assert (result.text, result.selected_model) == ("answer", "gpt-4o")
    # 1,000 × 0.15 + 10 × 0.60 per million, then 1,000 × 2.50 + 100 × 10.00 per million
    assert event["estimated_cost_usd"] == result.estimated_cost_usd == pytest.approx(0.000156 + 0.0035)
    assert (event["tokens_in"], event["tokens_out"]) == (2000, 110)
    assert [(a["model"], a["cost_usd"]) for a in event["attempts"]] == [
        ("gpt-4o-mini", 0.000156), ("gpt-4o", 0.0035),
    ]  # fmt: skip
    assert (event["fallback_triggered"], event["retry_count"]) == (False, 0)


async def test_a_cascade_stops_at_the_first_answer_that_will_do(log: Path) -> None:
    result = await llmscope.call_llm("Hi", "cheap", cascade("poor"))
    assert (result.text, result.estimated_cost_usd) == ("poor", 0.000156)


async def test_when_nothing_better_can_be_had_the_paid_answer_is_given(log: Path) -> None:
    name = cascade("answer", second=ScriptedError("auth_error"))
    result = await llmscope.call_llm("Hi", "cheap", name)
    (event,) = events(log)
    assert (result.text, event["status"], event["model_selected"]) == ("poor", "success", "gpt-4o-mini")
    assert [attempt["status"] for attempt in event["attempts"]] == ["success", "error"]


async def test_a_judge_that_fails_ends_the_call_with_what_was_spent(log: Path) -> None:
    name = cascade()

    class Broken:
        async def is_good_enough(self, prompt: str, answer: str) -> bool:
            raise RuntimeError("no judge today")

    with_parts(router=Router(Target("small", "gpt-4o-mini"), Target("large", "gpt-4o")), escalation=Broken())
    with pytest.raises(RuntimeError, match="no judge"):
        await llmscope.call_llm("Hi", "cheap", name)
    (event,) = events(log)
    assert (event["status"], event["estimated_cost_usd"]) == ("error", 0.000156)
