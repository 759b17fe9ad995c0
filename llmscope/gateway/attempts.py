"""The attempts of one call: one provider asked until it answers or should be left alone.

Between attempts there are waits; around each stand the breaker and the call's deadline; after each the
router is told. What does not belong here: which provider comes next (`pipeline`), what errors mean
(`provider`).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llmscope.clock import Clock, SystemClock
from llmscope.envelope import CircuitState
from llmscope.errors import (
    AnswerFailed,
    CircuitOpen,
    ContextTooLargeError,
    DeadlineExceeded,
    GuardBlocked,
)
from llmscope.gateway.provider import ProviderBase, ProviderResponse, is_known_unbilled
from llmscope.gateway.stages import Breaker, Observation, Permit, RetryPolicy, Router, Target

CANCELLED = "cancelled"
CIRCUIT_OPEN = "circuit_open"
# Failures that tell nothing about the provider: the caller's own fault, or the caller's leaving.
_BLAMELESS = frozenset({"invalid_request", CANCELLED})

_OWN_CATEGORIES: tuple[tuple[type[Exception], str], ...] = (
    (CircuitOpen, CIRCUIT_OPEN),
    (DeadlineExceeded, "timeout"),
    (GuardBlocked, "guard_blocked"),
    (ContextTooLargeError, "context_too_large"),
)

_OWN_ERRORS = tuple(kind for kind, _ in _OWN_CATEGORIES)

Outcome = TypeVar("Outcome")


class Reply(tuple[str, int, int]):
    """`(text, tokens_in, tokens_out)`, which is all that callers of `_call_provider` may count on, and
    beside it what the provider said more."""

    finish_reason: str | None = None
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    usage_known: bool = True

    @classmethod
    def of(cls, response: ProviderResponse) -> Reply:
        """What a provider answered. Counts that are no counts are taken as not reported."""
        counts = (response.tokens_in, response.tokens_out)
        counted = all(isinstance(count, int) and count >= 0 for count in counts)
        tokens_in, tokens_out = counts if counted else (0, 0)
        reply = cls((response.text, tokens_in, tokens_out))
        # Providers of old answer with three fields only.
        reply.finish_reason = getattr(response, "finish_reason", None)
        reply.cache_read_tokens = getattr(response, "cache_read_tokens", 0) if counted else 0
        reply.cache_write_tokens = getattr(response, "cache_write_tokens", 0) if counted else 0
        reply.cache_write_1h_tokens = getattr(response, "cache_write_1h_tokens", 0) if counted else 0
        reply.usage_known = counted and getattr(response, "usage_known", True)
        return reply


@dataclass
class CallRecord:
    """The attempts of one call so far, and what they are bound by.

    Attributes:
        clock: on which its waits and latencies are measured.
        request_id: from which the jitter of its waits is drawn, so that a replay waits alike.
        attempts: `{provider, model, latency_ms, status, error_type}`, in order.
        may_be_billed: whether any failed attempt is not known to have cost nothing.
        targets_attempted: at how many targets there was at least one attempt.
        target: what is being asked now, under the name it is registered by.
        retry: how often and how long.
        deadline_at: the instant (monotonic seconds) after which nothing more is tried.
        breaker_of: the breaker of a provider, by registered name; None when breakers are off.
        router: who learns from each attempt.
    """

    clock: Clock = field(default_factory=SystemClock)
    request_id: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    may_be_billed: bool = False
    targets_attempted: int = 0
    target: Target | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    deadline_at: float | None = None
    breaker_of: Callable[[str], Breaker] | None = None
    router: Router | None = None

    def add(self, provider: str, model: str, started: float, error_type: str | None = None) -> None:
        """Note one attempt that began at `started` (monotonic seconds) and has just ended."""
        attempt: dict[str, Any] = {
            "provider": provider,
            "model": model,
            "latency_ms": milliseconds(self.clock.monotonic() - started),
            "status": "success" if error_type is None else "error",
        }
        if error_type is not None:
            attempt["error_type"] = error_type
        self.attempts.append(attempt)
        if self.router is not None and self.target is not None:
            self.router.observe(
                Observation(
                    target=self.target,
                    is_success=error_type is None,
                    is_fault=error_type is not None and error_type not in _BLAMELESS,
                    latency_ms=attempt["latency_ms"],
                    cost_nano=None,
                ),
                self.clock.monotonic(),
            )

    def add_failure(self, provider: ProviderBase, model: str, started: float, error: Exception) -> str:
        """Note an attempt that failed, and whether it may have been billed; returns its category."""
        category = category_of(provider, error)
        self.add(str(provider.provider_name), model, started, category)
        was_cut = isinstance(error, DeadlineExceeded)
        self.may_be_billed = self.may_be_billed or was_cut or not is_unbilled(provider, error)
        return category

    def seconds_left(self) -> float | None:
        """How much of the caller's whole wait is left; None without a deadline."""
        return None if self.deadline_at is None else self.deadline_at - self.clock.monotonic()


current_call: ContextVar[CallRecord | None] = ContextVar("llmscope_current_call", default=None)
"""The record of the call that is running in this task. It travels beside `_call_provider`, whose own
signature is a patch point that tests replace."""


@dataclass
class OpenAttempt:
    """An attempt that the provider has begun to answer. `succeed` or `fail` is called, once.

    Attributes:
        started: when it began, monotonic seconds.
    """

    record: CallRecord
    provider: ProviderBase
    model: str
    started: float
    permit: Permit | None

    def begin(self) -> None:
        """Its first piece has come. That answers a probe: a circuit does not wait for the end of a long
        answer, or for a slow reader of it."""
        breaker = _breaker(self.record, str(self.provider.provider_name))
        now = self.record.clock.monotonic()
        if breaker is not None and breaker.state(now) is CircuitState.HALF_OPEN:
            _settle(self.permit, None, self.record)
            self.permit = None

    def succeed(self) -> None:
        """It was answered to the end."""
        self.record.add(str(self.provider.provider_name), self.model, self.started)
        _settle(self.permit, None, self.record)

    def fail(self, error_type: str) -> None:
        """The answer ended before its end: by a failure of this category, or because it was left."""
        self.record.add(str(self.provider.provider_name), self.model, self.started, error_type)
        _settle(self.permit, error_type, self.record)


async def attempt_until_done(
    record: CallRecord,
    provider: ProviderBase,
    model: str,
    retry_attempts: int,
    once: Callable[[], Awaitable[Outcome]],
) -> Outcome:
    """Make attempts with `once` at one provider until one succeeds; raises what `attempt_until_open` does."""
    outcome, attempt = await attempt_until_open(record, provider, model, retry_attempts, once)
    attempt.succeed()
    return outcome


async def attempt_until_open(
    record: CallRecord,
    provider: ProviderBase,
    model: str,
    retry_attempts: int,
    once: Callable[[], Awaitable[Outcome]],
) -> tuple[Outcome, OpenAttempt]:
    """Make attempts with `once` at one provider until one is answered, or has begun to be.

    The loop is our own because no retry library takes an injected clock.

    Raises:
        CircuitOpen: no attempt was made.
        DeadlineExceeded: no attempt was made in the time left, or the last one was cut short.
        Exception: the last attempt's own.
    """
    name = str(provider.provider_name)
    breaker = _breaker(record, name)
    failure: Exception | None = None
    retry = 0
    while True:
        permit = None
        left = record.seconds_left()
        if left is not None and left <= 0:
            raise DeadlineExceeded(record.retry.deadline_seconds or 0.0) from failure
        if breaker is not None:
            permit = breaker.admit(record.clock.monotonic())
            if permit is None:
                raise failure or CircuitOpen(name)
        if retry == 0:
            record.targets_attempted += 1
        started = record.clock.monotonic()
        try:
            outcome = await (once() if left is None else _within(left, record, once))
        except asyncio.CancelledError:
            record.add(name, model, started, CANCELLED)
            _settle(permit, CANCELLED, record)
            raise
        except Exception as error:  # whatever an SDK raises: its provider says what it means
            category = record.add_failure(provider, model, started, error)
            _settle(permit, category, record)
            wait = None
            if retry < retry_attempts and provider.is_retryable(error):
                wait = backoff_seconds(provider, error, retry, record)
            if wait is None:
                raise
            failure = error
        except BaseException:  # the loop is going down; a probe must not stay taken
            _settle(permit, CANCELLED, record)
            raise
        else:
            return outcome, OpenAttempt(record, provider, model, started, permit)
        await record.clock.sleep(wait)
        retry += 1


def _breaker(record: CallRecord, name: str) -> Breaker | None:
    if record.breaker_of is None:
        return None
    return record.breaker_of(record.target.provider if record.target is not None else name)


def _settle(permit: Permit | None, category: str | None, record: CallRecord) -> None:
    if permit is None:
        return
    now = record.clock.monotonic()
    if category is None:
        permit.succeed(now)
    elif category in _BLAMELESS:
        permit.abandon(now)
    else:
        permit.fail(now)


async def _within(seconds: float, record: CallRecord, once: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """`once`, cut short at the call's deadline. The cut is made on the machine's own time, as the work
    it cuts is; on a virtual clock an attempt always ends by itself."""
    try:
        async with asyncio.timeout(seconds) as limit:
            return await once()
    except TimeoutError as error:
        if limit.expired():
            raise DeadlineExceeded(record.retry.deadline_seconds or seconds) from error
        raise


def milliseconds(seconds: float) -> float:
    """A duration as events carry it: milliseconds to the microsecond."""
    return round(seconds * 1000, 3)


def category_of(provider: ProviderBase, error: BaseException) -> str:
    """The category of an error: ours, else the provider's; `unknown` for a provider without a text for it."""
    if not isinstance(error, Exception):
        return CANCELLED
    for kind, category in _OWN_CATEGORIES:
        if isinstance(error, kind):
            return category
    if isinstance(error, AnswerFailed):
        return error.category
    told = provider.categorize_error(error)
    return told if isinstance(told, str) else "unknown"


def is_unbilled(provider: ProviderBase, error: Exception) -> bool:
    """Whether an error is known to have cost nothing of itself. Providers written before `is_unbilled`
    existed (or stand-ins for them) are judged by their category."""
    if isinstance(error, _OWN_ERRORS):
        return True  # what attempts before it may have cost stands in their record
    verdict = getattr(provider, "is_unbilled", None)
    answer = verdict(error) if callable(verdict) else None
    return answer if isinstance(answer, bool) else is_known_unbilled(error, category_of(provider, error))


def backoff_seconds(provider: ProviderBase, error: Exception, retry: int, record: CallRecord) -> float | None:
    """How long to wait before retry number `retry` (from 0): the backoff, or what the vendor asked for
    if that is longer. None when that is more than a caller should wait, or than the deadline leaves."""
    limits = record.retry
    asked = getattr(provider, "retry_after_seconds", None)
    seconds = asked(error) if callable(asked) else None
    wanted = float(seconds) if isinstance(seconds, (int, float)) else 0.0
    if wanted > limits.longest_backoff_seconds:
        return None
    backoff = limits.first_backoff_seconds * 2.0**retry
    if limits.jitter:
        backoff *= 1 + limits.jitter * _spread(record.request_id, retry)
    wait = min(max(wanted, backoff), limits.longest_backoff_seconds)
    left = record.seconds_left()
    return None if left is not None and wait >= left else wait


def _spread(request_id: str, retry: int) -> float:
    """From −1 to 1, even over request ids, the same each time for one of them."""
    return zlib.crc32(f"{request_id}:{retry}".encode()) / 0x7FFFFFFF - 1
