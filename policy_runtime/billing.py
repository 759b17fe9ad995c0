"""The telemetry lines of calls that llmscope did not make: what was bought, or how the call failed.

The gateway's telemetry and providers are imported when the first gate is built, not with this module:
who only names the gate need not wait for them.

What does not belong here: when a line is written (`admission`), what it settles (`settlement`).
"""

from __future__ import annotations

import contextlib
import math
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from llmscope.context import LLMRequestContext
from llmscope.gateway.cost_model import price_book
from llmscope.money import MAX_USD, to_nano
from policy_runtime.asking import readable_text, whole_tokens
from policy_runtime.quotes import price_of

if TYPE_CHECKING:
    from policy_runtime.labels import Labels


class AdmittedCall(NamedTuple):
    """The call that a bill is for, as it was admitted."""

    request_id: str
    labels: Labels
    model: str | None
    model_tier: str | None


def load_what_billing_needs() -> None:
    """Import the gateway's telemetry and providers and read the price lists now, so that the first
    settlement, perhaps on an event loop, does not."""
    import llmscope.gateway.provider  # noqa: PLC0415
    import llmscope.gateway.telemetry  # noqa: F401, PLC0415

    price_book()


def bill_line(
    admitted: AdmittedCall,
    now: datetime,
    latency_ms: float | None = None,
    *,
    tokens_in: int | None = None,
    tokens_out: int | None = None,
    cost_usd: float | None = None,
    finish_reason: str | None = None,
    model: str | None = None,
    cache_read_tokens: int | None = None,
    cache_write_tokens: int | None = None,
    cache_write_1h_tokens: int | None = None,
    status: str = "success",
) -> bytes:
    """The line of a bill: `cost_usd` as stated, else tokens at the model's price. A model without a price
    leaves the cost unknown.

    Args:
        model: the model that answered, when it is not the one admitted.
        cache_read_tokens: how many of `tokens_in` the provider had cached.
        cache_write_tokens: how many of `tokens_in` the provider put into its cache.
        cache_write_1h_tokens: how many of those it keeps there for an hour.

    Raises:
        ValueError: neither a cost nor both token counts, or numbers that no call has: a line with them would
            be a reject, and the money nowhere.
    """
    from llmscope.envelope import CostSource  # noqa: PLC0415
    from llmscope.gateway.telemetry import usage_line  # noqa: PLC0415

    cost_nano: int | None
    source = CostSource.ESTIMATED_PROVIDER_API
    tokens_in, tokens_out = _tokens("tokens_in", tokens_in), _tokens("tokens_out", tokens_out)
    cache_read_tokens = _tokens("cache_read_tokens", cache_read_tokens)
    cache_write_tokens = _tokens("cache_write_tokens", cache_write_tokens)
    cache_write_1h_tokens = _tokens("cache_write_1h_tokens", cache_write_1h_tokens)
    model = readable_text("model", model) or admitted.model
    rate = price_of(model)
    if cost_usd is not None:
        cost_nano = to_nano(_amount(cost_usd))
    elif tokens_in is not None and tokens_out is not None:
        source = CostSource.ESTIMATED_LOCAL_SNAPSHOT
        cost_nano = None
        if rate is not None:
            cost_nano = rate.cost_nano(
                tokens_in,
                tokens_out,
                cache_read_tokens or 0,
                cache_write_tokens or 0,
                cache_write_1h_tokens or 0,
            )
    else:
        raise ValueError("a bill needs cost_usd, or both tokens_in and tokens_out")
    return usage_line(
        request_id=admitted.request_id,
        context=_context_of(admitted.labels),
        route_name=admitted.labels.route_name or "",
        model=model,
        provider=rate.provider if rate else None,
        model_tier=admitted.model_tier,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_nano=cost_nano,
        cost_source=source if cost_nano is not None else CostSource.DEGRADED_UNKNOWN,
        price_version=rate.price_version if rate and cost_usd is None else None,
        status=status,
        finish_reason=finish_reason,
        latency_ms=latency_ms,
        cache_read_tokens=cache_read_tokens,
        cache_write_tokens=cache_write_tokens,
        cache_write_1h_tokens=cache_write_1h_tokens,
        timestamp=now,
    )


def _tokens(name: str, count: Any) -> int | None:
    return None if count is None else whole_tokens(name, count)


def _amount(cost_usd: Any) -> float | Decimal:
    """`cost_usd` as a number that money is made of, whichever type of number it is.

    Raises:
        ValueError: no call costs that.
    """
    amount: float | Decimal = math.nan
    if isinstance(cost_usd, Decimal):
        amount = cost_usd if cost_usd.is_finite() else math.nan
    elif not isinstance(cost_usd, (bool, str, bytes)):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            amount = float(cost_usd)
    if not 0 <= amount < MAX_USD:
        raise ValueError(f"cost_usd is {cost_usd!r:.80}; a bill is 0 or more and below a billion dollars")
    return amount


def failure_line(admitted: AdmittedCall, error: BaseException, now: datetime, latency_ms: float) -> bytes:
    """The line of a call that failed: it cost nothing where that is known, else nobody knows what."""
    from llmscope.envelope import CostSource  # noqa: PLC0415
    from llmscope.gateway.provider import is_known_unbilled  # noqa: PLC0415
    from llmscope.gateway.telemetry import usage_line  # noqa: PLC0415

    category = category_of(error)
    unbilled = is_known_unbilled(error, category)
    return usage_line(
        request_id=admitted.request_id,
        context=_context_of(admitted.labels),
        route_name=admitted.labels.route_name or "",
        model=admitted.model,
        model_tier=admitted.model_tier,
        tokens_in=0,
        tokens_out=0,
        cost_nano=0 if unbilled else None,
        cost_source=CostSource.ESTIMATED_LOCAL_SNAPSHOT if unbilled else CostSource.DEGRADED_UNKNOWN,
        status="error",
        error_type=category,
        latency_ms=latency_ms,
        timestamp=now,
    )


_CATEGORY_OF_STATUS = {
    400: "invalid_request",
    401: "auth_error",
    403: "auth_error",
    404: "invalid_request",
    408: "timeout",
    413: "invalid_request",
    422: "invalid_request",
    429: "rate_limit",
}


def category_of(exc: BaseException) -> str:
    """The error category of whatever a caller's SDK raised, by the HTTP status that the SDKs attach."""
    from asyncio import CancelledError  # noqa: PLC0415  the event loop's library is loaded by who runs one

    if isinstance(exc, (CancelledError, GeneratorExit, KeyboardInterrupt)):
        return "cancelled"
    status = getattr(exc, "status_code", None)
    if isinstance(status, int):
        return _CATEGORY_OF_STATUS.get(status, "transient_error" if status >= 500 else "unknown")
    return "timeout" if _timed_out(exc) else "unknown"


def _timed_out(exc: BaseException) -> bool:
    """Whether a timeout is at the bottom of it: the SDKs' own timeout errors are no `TimeoutError`."""
    seen: set[int] = set()
    cause: BaseException | None = exc
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, TimeoutError):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def _context_of(labels: Labels) -> LLMRequestContext:
    return LLMRequestContext(
        tenant_id=labels.tenant_id,
        caller_id=labels.caller_id,
        use_case=labels.use_case,
        feature_id=labels.feature_id,
        experiment_id=labels.experiment_id,
        budget_namespace=labels.budget_namespace,
    )
