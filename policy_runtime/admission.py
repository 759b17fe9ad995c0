"""Around a call that llmscope does not make: decide on entering, settle inside, whatever happens.

A known bill (tokens with a price, or a stated cost) settles the reservation. Leaving the block without
one keeps the reservation until it expires; leaving it by an exception appends an error line whose cost
is 0 where the failure is known to be unbilled, else unknown.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llmscope.errors import EventLogError
from llmscope.timestamps import parse_micros
from policy_runtime.billing import AdmittedCall, bill_line, failure_line
from policy_runtime.errors import AlreadySettled, NotEntered, UnknownRequest

if TYPE_CHECKING:
    from datetime import datetime

    from policy_runtime.asking import Ask
    from policy_runtime.decision_record import DecisionRecord
    from policy_runtime.gate import PolicyRuntime
    from policy_runtime.ledger import Held

logger = logging.getLogger("policy_runtime")


class Admission:
    """One admitted call. Enter it with `with` or `async with`; `PolicyDenied` is raised on entering. Entered
    again, for another try, it is another call: decided anew, with a bill of its own.

    Attributes of the entered block:
        request_id: joins decision and telemetry.
        decision: the record as written.
        verdict: `allow` or `downgrade`.
        model: the model to call, None when the gate knows none for the tier.
        model_tier: the effective tier.
        max_output_tokens: the bound on the answer that the reservation assumes.
    """

    __slots__ = ("_ask", "_entered_at", "_gate", "_on_loop", "_record", "_settled", "_unwritten")

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
        self._record = self._gate.decide(self._ask)
        self._entered_at, self._settled = self._gate.clock.monotonic(), False
        return self

    async def __aenter__(self) -> Admission:
        self._on_loop = True
        self._record = await self._gate.decide_async(self._ask)
        self._entered_at, self._settled = self._gate.clock.monotonic(), False
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
        cache_write_tokens: int | None = None,
        cache_write_1h_tokens: int | None = None,
        status: str = "success",
    ) -> None:
        """Append the bill: `cost_usd` as stated, else tokens at the model's price.

        A log that cannot be written costs the caller nothing: the process's log tells of it, the
        reservation stands until it expires, and a paid answer is not lost to an exception.

        Args:
            model: the model that answered, when it is not the one admitted.
            cache_read_tokens: how many of `tokens_in` the provider had cached.
            cache_write_tokens: how many of `tokens_in` the provider put into its cache.
            cache_write_1h_tokens: how many of those it keeps there for an hour.

        Raises:
            AlreadySettled: it was settled before.
            ValueError: neither a cost nor both token counts, or numbers that no call has.
        """
        request_id = self.request_id
        if self._settled:
            raise AlreadySettled(f"request {request_id} is settled already")
        line = bill_line(
            self._admitted(),
            self._gate.clock.now(),
            self._elapsed_ms(),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost_usd=cost_usd,
            finish_reason=finish_reason,
            model=model,
            cache_read_tokens=cache_read_tokens,
            cache_write_tokens=cache_write_tokens,
            cache_write_1h_tokens=cache_write_1h_tokens,
            status=status,
        )
        self._write(line)

    def extend(self, seconds: float) -> datetime:
        """Have the reservation lapse `seconds` from now instead, for a call that takes longer.

        Returns when it lapses: one longest window of the policy after the admission at the latest.

        Raises:
            AlreadySettled: there is nothing left to hold.
            ValueError: longer than the policy's longest window, or that much time has passed.
            EventLogError: the extension could not be written: the reservation lapses as before.
        """
        record = self.decision
        if self._settled:
            raise AlreadySettled(f"request {record.request_id} is settled already")
        admitted_us = parse_micros(str(record.timestamp))
        expires_us = parse_micros(str(record.reservation_expires_at))
        return self._gate.prolong(
            self.request_id, admitted_us, expires_us, seconds, may_wait=not self._on_loop
        )

    def _settle_failure(self, exc: BaseException) -> None:
        self._write(failure_line(self._admitted(), exc, self._gate.clock.now(), self._elapsed_ms()))

    def _admitted(self) -> AdmittedCall:
        return AdmittedCall(self.request_id, self._ask.labels, self.model, self.model_tier)

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


def admitted_somewhere(gate: PolicyRuntime, request_id: str) -> Held:
    """The reservation of a request that any process admitted.

    Raises:
        AlreadySettled, UnknownRequest.
    """
    held, settled = gate.held(request_id)
    if settled:
        raise AlreadySettled(f"request {request_id} is settled already")
    if held is None:
        raise UnknownRequest(
            f"no admission of request {request_id!r} is known: it was denied, never admitted, or admitted "
            "before the longest window of the policy"
        )
    return held


def settle_held(gate: PolicyRuntime, request_id: str, **bill: Any) -> None:
    """Append the bill of a request that any process admitted; see `PolicyRuntime.settle`."""
    decided = admitted_somewhere(gate, request_id).admitted
    admitted = AdmittedCall(request_id, decided.labels, decided.model, decided.model_tier)
    line = bill_line(admitted, gate.clock.now(), **bill)
    gate.telemetry_writer.append(line, unlocked_after_timeout=True)
