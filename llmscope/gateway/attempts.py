"""What one call goes through: its attempts, its waits, and what is known of its bill.

What does not belong here: the order of retries and fallbacks (`client`), what errors mean (`provider`).
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from llmscope.clock import Clock, SystemClock
from llmscope.gateway.provider import ProviderBase, ProviderResponse, is_known_unbilled

# Waits between attempts at one provider: 1, 2, 4, … seconds. No jitter, so that replays are exact; a
# vendor that wants load spread says so with Retry-After.
FIRST_BACKOFF_SECONDS = 1.0
# A vendor that asks for a longer wait than this is left for the fallback: the caller is waiting too.
LONGEST_WAIT_SECONDS = 60.0

CANCELLED = "cancelled"


class Reply(tuple[str, int, int]):
    """`(text, tokens_in, tokens_out)`, which is all that callers of `_call_provider` may count on, and
    beside it what the provider said more."""

    finish_reason: str | None = None
    cache_read_tokens: int = 0
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
        reply.usage_known = counted and getattr(response, "usage_known", True)
        return reply


@dataclass
class CallRecord:
    """The attempts of one call so far.

    Attributes:
        clock: on which its waits and latencies are measured.
        attempts: `{provider, model, latency_ms, status, error_type}`, in order.
        may_be_billed: whether any failed attempt is not known to have cost nothing.
    """

    clock: Clock = field(default_factory=SystemClock)
    attempts: list[dict[str, Any]] = field(default_factory=list)
    may_be_billed: bool = False

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

    def add_failure(self, provider: ProviderBase, model: str, started: float, error: Exception) -> None:
        """Note an attempt that failed, and whether it may have been billed."""
        self.add(str(provider.provider_name), model, started, category_of(provider, error))
        self.may_be_billed = self.may_be_billed or not is_unbilled(provider, error)


current_call: ContextVar[CallRecord | None] = ContextVar("llmscope_current_call", default=None)
"""The record of the call that is running in this task. It travels beside `_call_provider`, whose own
signature is a patch point that tests replace."""


def milliseconds(seconds: float) -> float:
    """A duration as events carry it: milliseconds to the microsecond."""
    return round(seconds * 1000, 3)


def category_of(provider: ProviderBase, error: BaseException) -> str:
    """The provider's category of an error; `unknown` for a provider that has no text for it."""
    if not isinstance(error, Exception):
        return CANCELLED
    category = provider.categorize_error(error)
    return category if isinstance(category, str) else "unknown"


def is_unbilled(provider: ProviderBase, error: Exception) -> bool:
    """Whether an attempt is known to have cost nothing. Providers written before `is_unbilled` existed
    (or stand-ins for them) are judged by their category."""
    verdict = getattr(provider, "is_unbilled", None)
    answer = verdict(error) if callable(verdict) else None
    return answer if isinstance(answer, bool) else is_known_unbilled(error, category_of(provider, error))


def backoff_seconds(provider: ProviderBase, error: Exception, retry: int) -> float | None:
    """How long to wait before retry number `retry` (from 0): the backoff, or what the vendor asked for
    if that is longer. None when the vendor asked for more than a caller should wait."""
    asked = getattr(provider, "retry_after_seconds", None)
    seconds = asked(error) if callable(asked) else None
    wanted = float(seconds) if isinstance(seconds, (int, float)) else 0.0
    if wanted > LONGEST_WAIT_SECONDS:
        return None
    backoff: float = FIRST_BACKOFF_SECONDS * 2**retry
    return min(max(wanted, backoff), LONGEST_WAIT_SECONDS)
