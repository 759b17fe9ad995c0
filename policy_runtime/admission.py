"""Around a call that llmscope does not make: decide on entering, settle inside, whatever happens.

A known bill (tokens with a price, or a stated cost) settles the reservation. Leaving the block without
one keeps the reservation until it expires; leaving it by an exception appends an error line whose cost
is 0 where the failure is known to be unbilled, else unknown.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING

from llmscope.context import LLMRequestContext
from llmscope.envelope import CostSource
from llmscope.errors import EventLogError
from llmscope.gateway.provider import is_known_unbilled
from llmscope.gateway.telemetry import usage_line
from llmscope.money import to_nano
from policy_runtime.errors import AlreadySettled, NotEntered, UnknownRequest
from policy_runtime.quotes import price_of

if TYPE_CHECKING:
    from policy_runtime.asking import Ask
    from policy_runtime.decision_record import DecisionRecord
    from policy_runtime.gate import PolicyRuntime
    from policy_runtime.labels import Labels

logger = logging.getLogger("policy_runtime")


class Admission:
    """One admitted call. Enter it with `with` or `async with`; `PolicyDenied` is raised on entering.

    Attributes of the entered block:
        request_id: joins decision and telemetry.
        decision: the record as written.
        verdict: `allow` or `downgrade`.
        model: the model to call, None when the gate knows none for the tier.
        model_tier: the effective tier.
        max_output_tokens: the bound on the answer that the reservation assumes.
    """

    def __init__(self, gate: PolicyRuntime, ask: Ask) -> None:
        self._gate = gate
        self._ask = ask
        self._record: DecisionRecord | None = None
        self._settled = False
        self._on_loop = False
        self._unwritten: list[bytes] = []
        self._entered_at = 0.0

    # -- deciding ----------------------------------------------------------------------------------------

    def __enter__(self) -> Admission:
        self._enter(self._gate.decide(self._ask))
        return self

    async def __aenter__(self) -> Admission:
        self._on_loop = True
        self._enter(await self._gate.decide_async(self._ask))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None and not self._settled:
            self._settle_failure(exc)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None and not self._settled:
            self._settle_failure(exc)
        if not self._unwritten:
            return
        import asyncio  # noqa: PLC0415  the event loop's library is loaded by who runs one

        for line in self._unwritten:
            # Shielded: a cancelled caller must not lose a bill that is on its way to the log.
            await asyncio.shield(asyncio.to_thread(self._append, line))
        self._unwritten.clear()

    def _enter(self, record: DecisionRecord) -> None:
        self._record = record
        self._entered_at = self._gate.clock.monotonic()

    # -- what was decided ----------------------------------------------------------------------------------

    @property
    def decision(self) -> DecisionRecord:
        """The decision as written.

        Raises:
            NotEntered: the block has not been entered.
        """
        if self._record is None:
            raise NotEntered(
                "the decision is made on entering the block: write `with gate.admit(...) as admission:`"
            )
        return self._record

    @property
    def request_id(self) -> str:
        """Joins decision and telemetry."""
        return str(self.decision.request_id)

    @property
    def verdict(self) -> str:
        """`allow` or `downgrade`."""
        return str(self.decision.decision)

    @property
    def model(self) -> str | None:
        """The model to call; None when the gate knows none for the tier."""
        model = self.decision.model
        return None if model is None else str(model)

    @property
    def model_tier(self) -> str:
        """The effective tier."""
        return str(self.decision.effective_model_tier)

    @property
    def max_output_tokens(self) -> int:
        """The bound on the answer that the reservation assumes."""
        return int(self.decision.reserved_tokens or 0) - self._ask.tokens_in

    @property
    def settled(self) -> bool:
        """Whether a bill, or the failure of the call, has been written down."""
        return self._settled

    # -- settling ------------------------------------------------------------------------------------------

    def settle(
        self,
        *,
        tokens_in: int | None = None,
        tokens_out: int | None = None,
        cost_usd: float | None = None,
        finish_reason: str | None = None,
        model: str | None = None,
        cache_read_tokens: int | None = None,
        status: str = "success",
    ) -> None:
        """Append the bill: `cost_usd` as stated, else tokens at the model's price.

        A log that cannot be written costs the caller nothing: the process's log tells of it, the
        reservation stands until it expires, and a paid answer is not lost to an exception.

        Args:
            model: the model that answered, when it is not the one admitted.
            cache_read_tokens: how many of `tokens_in` the provider had cached.

        Raises:
            AlreadySettled: it was settled before.
            ValueError: neither a cost nor both token counts.
        """
        record = self.decision
        if self._settled:
            raise AlreadySettled(f"request {record.request_id} is settled already")
        line = bill_line(
            self._gate,
            request_id=self.request_id,
            labels=self._ask.labels,
            model=model or self.model,
            model_tier=self.model_tier,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=cost_usd,
            finish_reason=finish_reason,
            cache_read_tokens=cache_read_tokens,
            status=status,
            latency_ms=self._elapsed_ms(),
        )
        self._write(line)

    def extend(self, seconds: float) -> None:
        """Have the reservation lapse `seconds` from now instead, for a call that takes longer.

        Raises:
            ValueError: longer than the policy's longest window.
        """
        self._gate.extend(self.request_id, seconds)

    def _settle_failure(self, exc: BaseException) -> None:
        category = category_of(exc)
        unbilled = is_known_unbilled(exc, category)
        labels = self._ask.labels
        line = usage_line(
            request_id=self.request_id,
            context=context_of(labels),
            route_name=labels.route_name or "",
            model=self.model,
            model_tier=self.model_tier,
            tokens_in=0,
            tokens_out=0,
            cost_nano=0 if unbilled else None,
            cost_source=CostSource.ESTIMATED_LOCAL_SNAPSHOT if unbilled else CostSource.DEGRADED_UNKNOWN,
            status="error",
            error_type=category,
            latency_ms=self._elapsed_ms(),
            timestamp=self._gate.clock.now(),
        )
        self._write(line)

    def _elapsed_ms(self) -> float:
        return round((self._gate.clock.monotonic() - self._entered_at) * 1000, 3)

    def _write(self, line: bytes) -> None:
        self._settled = True
        if self._on_loop:
            try:
                if self._gate.telemetry_writer.try_append(line) is None:
                    self._unwritten.append(
                        line
                    )  # a contended log: written on leaving the block, off the loop
            except EventLogError as exc:
                self._tell_unwritten(exc)
        else:
            self._append(line)
        self._gate.catch_up()

    def _append(self, line: bytes) -> None:
        try:
            # A stopped holder of the log's lock must not cost a bill.
            self._gate.telemetry_writer.append(line, unlocked_after_timeout=True)
        except EventLogError as exc:
            self._tell_unwritten(exc)

    def _tell_unwritten(self, exc: EventLogError) -> None:
        self._settled = False
        logger.error(
            "the bill of request %s could not be written (%s); its reservation stands until it expires",
            self.request_id,
            exc,
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


def settle_held(
    gate: PolicyRuntime,
    request_id: str,
    *,
    tokens_in: int | None = None,
    tokens_out: int | None = None,
    cost_usd: float | None = None,
    finish_reason: str | None = None,
    model: str | None = None,
    cache_read_tokens: int | None = None,
    status: str = "success",
) -> None:
    """Append the bill of a request that any process admitted; see `PolicyRuntime.settle`."""
    held, settled = gate.held(request_id)
    if settled:
        raise AlreadySettled(f"request {request_id} is settled already")
    if held is None:
        raise UnknownRequest(
            f"no admission of request {request_id!r} is known: it was denied, never admitted, or admitted "
            "before the longest window of the policy"
        )
    admitted = held.admitted
    gate.telemetry_writer.append(
        bill_line(
            gate,
            request_id=request_id,
            labels=admitted.labels,
            model=model or admitted.model,
            model_tier=admitted.model_tier,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=cost_usd,
            finish_reason=finish_reason,
            cache_read_tokens=cache_read_tokens,
            status=status,
            latency_ms=None,
        ),
        unlocked_after_timeout=True,
    )


def bill_line(
    gate: PolicyRuntime,
    *,
    request_id: str,
    labels: Labels,
    model: str | None,
    model_tier: str | None,
    tokens_in: int | None,
    tokens_out: int | None,
    cost_usd: float | None,
    finish_reason: str | None,
    cache_read_tokens: int | None,
    status: str,
    latency_ms: float | None,
) -> bytes:
    """The telemetry line of a bill. A model without a price leaves the cost unknown."""
    cost_nano: int | None
    source = CostSource.ESTIMATED_PROVIDER_API
    rate = price_of(model)
    if cost_usd is not None:
        if not 0 <= cost_usd < 1_000_000_000:
            raise ValueError(f"cost_usd is {cost_usd}; a bill is 0 or more and below a billion dollars")
        cost_nano = to_nano(cost_usd)
    elif tokens_in is not None and tokens_out is not None:
        source = CostSource.ESTIMATED_LOCAL_SNAPSHOT
        cost_nano = None if rate is None else rate.cost_nano(tokens_in, tokens_out, cache_read_tokens or 0)
    else:
        raise ValueError("a bill needs cost_usd, or both tokens_in and tokens_out")
    return usage_line(
        request_id=request_id,
        context=context_of(labels),
        route_name=labels.route_name or "",
        model=model,
        provider=rate.provider if rate else None,
        model_tier=model_tier,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_nano=cost_nano,
        cost_source=source if cost_nano is not None else CostSource.DEGRADED_UNKNOWN,
        price_version=rate.price_version if rate and cost_usd is None else None,
        status=status,
        finish_reason=finish_reason,
        latency_ms=latency_ms,
        cache_read_tokens=cache_read_tokens,
        timestamp=gate.clock.now(),
    )


def context_of(labels: Labels) -> LLMRequestContext:
    """The request context that carries the same attribution."""
    return LLMRequestContext(
        tenant_id=labels.tenant_id,
        caller_id=labels.caller_id,
        use_case=labels.use_case,
        feature_id=labels.feature_id,
        experiment_id=labels.experiment_id,
        budget_namespace=labels.budget_namespace,
    )
