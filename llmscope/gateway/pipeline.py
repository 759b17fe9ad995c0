"""What a call passes through, in the order in which it does:

    context → guards in → cache → route → (breaker, retry, fallback over attempts) → provider
            → guards out → price → envelope → emit

The first function below is that line. Breaker, retry and deadline stand around each attempt
(`attempts`); price, envelope and emission are the call's own account of itself (`call`). A stage for
which the route has no part is skipped. What does not belong here: how any part works.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from llmscope.errors import GuardBlocked
from llmscope.gateway.attempts import current_call
from llmscope.gateway.call import Answer, Call
from llmscope.gateway.provider import ProviderBase
from llmscope.gateway.stages import CachedAnswer, CacheQuery, Direction, ResponseCache, RoutingRequest
from llmscope.gateway.tokens import estimate_tokens

# Answers that ended by themselves; one that was cut is nobody else's answer.
_WHOLE = frozenset({None, "stop"})


class Ask(Protocol):
    """One provider with retries: `client._call_provider`, or what a test put in its place."""

    def __call__(
        self,
        *,
        provider: ProviderBase,
        prompt: str,
        model: str,
        max_output_tokens: int,
        retry_attempts: int,
    ) -> Awaitable[tuple[str, int, int]]: ...


async def answer(call: Call, ask: Ask) -> str:
    """Take the call through every stage of its route; returns the text for the caller.

    Raises:
        ContextTooLargeError: the conversation does not fit; nothing was sent.
        GuardBlocked: a guard refused the prompt (nothing was sent) or the answer (it was paid for).
        CircuitOpen, DeadlineExceeded: see `attempts`.
        Exception: the provider's own, of the last target tried.
    """
    await prepare(call)
    cache = call.parts.cache
    return await (buy(call, ask) if cache is None else _from_cache(call, ask, cache))


async def prepare(call: Call) -> None:
    """What happens to the prompt before anything is looked for or bought; raises what `answer` does."""
    parts = call.parts
    if parts.context is not None:
        call.prompt = (await parts.context.fit(call.history, call.prompt)).prompt
    if parts.guards:
        call.prompt = await guarded(call, call.prompt, "in")


async def buy(call: Call, ask: Ask) -> str:
    """An answer from a provider, for the caller; raises what `answer` does."""
    route(call)
    bought = await _first_good_answer(call, ask)
    if call.parts.guards:
        return await guarded(call, bought.text, "out")
    return bought.text


async def guarded(call: Call, text: str, direction: Direction) -> str:
    """`text` after every guard of the route.

    Raises:
        GuardBlocked: one of them refuses it.
    """
    for guard in call.parts.guards:
        verdict = await guard.check(text, direction)
        call.take_verdict(verdict, direction)
        if verdict.action == "block":
            raise GuardBlocked(direction, verdict.classes)
        text = verdict.text
    return text


async def _from_cache(call: Call, ask: Ask, cache: ResponseCache) -> str:
    async def bought() -> CachedAnswer:
        return cacheable(call, await buy(call, ask))

    call.outcome = await cache.answer(cache_query(call), bought, call.record.clock.monotonic())
    return call.outcome.answer.text


def cacheable(call: Call, text: str) -> CachedAnswer:
    """What was bought for `call` as a cache takes it; `text` is what the guards left of it."""
    bought = call.answers[-1]
    costs = [step.cost_nano for step in call.answers]
    return CachedAnswer(
        text=text,
        provider=bought.provider,
        model=bought.model,
        tokens_in=bought.tokens_in,
        tokens_out=bought.tokens_out,
        finish_reason=bought.finish_reason,
        cost_nano=None if None in costs else sum(cost for cost in costs if cost is not None),
        is_cacheable=bought.finish_reason in _WHOLE,
    )


def cache_query(call: Call) -> CacheQuery:
    """What makes this call the same as another. The route is part of it: its guards shape the answer."""
    return CacheQuery(
        model=call.model or call.policy.model_for_tier[call.model_tier],
        prompt=call.prompt,
        parameters=(("max_output_tokens", call.max_output_tokens), ("route", call.route_name)),
        tenant_id=call.context.tenant_id or "",
    )


def route(call: Call) -> None:
    """Let the route's router choose the targets; without one they stand as the route has them."""
    router = call.parts.router
    if router is None:
        return
    request = RoutingRequest(
        request_id=call.request_id,
        route_name=call.route_name,
        model_tier=call.model_tier,
        model=call.model,
        tokens_in=estimate_tokens(call.prompt),
        max_output_tokens=call.max_output_tokens,
    )
    call.take_choice(router.choose(request, call.record.clock.monotonic()))


async def _first_good_answer(call: Call, ask: Ask) -> Answer:
    """Ask one target after the other: the next one after a failure, and in a cascade after an answer
    that will not do. The last answer bought is kept if nothing better can be had."""
    escalation = call.parts.escalation
    token = current_call.set(call.record)
    try:
        while True:
            call.record.target = call.target
            call.has_asked = True
            try:
                reply = await ask(
                    provider=call.provider,
                    prompt=call.prompt,
                    model=call.target.model,
                    max_output_tokens=call.max_output_tokens,
                    retry_attempts=call.retry_attempts,
                )
            except Exception as error:  # whatever an SDK raises; without a fallback it goes on
                if call.falls_back(error):
                    continue
                if call.answers:
                    return call.answers[-1]
                raise
            bought = call.take_reply(reply)
            if escalation is None or call.position + 1 >= len(call.targets):
                return bought
            if await escalation.is_good_enough(call.prompt, bought.text):
                return bought
            call.position += 1
    finally:
        current_call.reset(token)
