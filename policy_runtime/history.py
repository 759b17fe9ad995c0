"""Events from log lines, and the cold start: reading only what the longest window needs.

A log is in time order but for a bounded disorder, so where the window begins is found by bisection.
Rotated siblings are read as far back as the window reaches. What does not belong here: what the
events mean (`ledger`).
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from llmscope.errors import MalformedLine
from llmscope.event_log import (
    FINGERPRINT_BYTES,
    LogTail,
    fingerprint_of,
    iter_lines,
    open_log,
    rotated_siblings,
)
from llmscope.money import to_nano
from llmscope.telemetry_line import Number, Text, explain_undecodable, read_usage, text_of
from llmscope.timestamps import MICROS, parse_micros
from policy_runtime.labels import labels_for
from policy_runtime.ledger import Admitted, Ledger

# How far out of order lines may stand for the bisection to find every one of a window.
DISORDER_US = 15 * 60 * MICROS
# Below this the rest is read in full rather than halved further.
_BISECT_UNTIL_BYTES = 64 << 10
_PROBE_BYTES = 64 << 10
_SIBLING_BYTES = 8 << 20


class FoldedDecision(msgspec.Struct, gc=False):
    """The fields of a decision-log line that the ledger needs."""

    event: Text = None
    timestamp: str | None = None
    request_id: Text = None
    tenant_id: Text = None
    caller_id: Text = None
    use_case: Text = None
    feature_id: Text = None
    experiment_id: Text = None
    budget_namespace: Text = None
    charged_namespace: Text = None
    route_name: Text = None
    model: Text = None
    effective_model_tier: Text = None
    decision: Text = None
    policy_id: Text = None
    reserved_cost_usd: Number = None
    reserved_tokens: Number = None
    reservation_expires_at: str | None = None
    policy_hash: Text = None
    scope: dict[str, str] | None = None
    threshold: Number = None
    window_start: str | None = None


class _Stamped(msgspec.Struct, gc=False):
    timestamp: str | None = None


_DECISION = msgspec.json.Decoder(FoldedDecision)
_STAMPED = msgspec.json.Decoder(_Stamped)


def fold_decision_line(ledger: Ledger, line: bytes) -> None:
    """Fold one line of the decision log.

    Raises:
        MalformedLine: the line is a reject; the fold goes on without it.
    """
    try:
        event = _DECISION.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise MalformedLine(*explain_undecodable(line, exc)) from None
    at_us = parse_micros(event.timestamp or "")
    kind = event.event or "decision"
    if kind == "decision":
        _fold_decision(ledger, event, at_us)
    elif kind == "reservation_extended":
        if event.reservation_expires_at is not None:
            ledger.extend(text_of(event.request_id) or "", parse_micros(event.reservation_expires_at))
    elif kind == "budget_alert":
        scope = (text_of(event.charged_namespace) or "", *(event.scope or {}).values())
        start = parse_micros(event.window_start) if event.window_start else 0
        ledger.alerted(text_of(event.policy_id) or "", scope, float(event.threshold or 0), at_us, start)
    elif kind == "policy_loaded":
        ledger.policy_hash_in_log = text_of(event.policy_hash)


def _fold_decision(ledger: Ledger, event: FoldedDecision, at_us: int) -> None:
    ledger.last_decision_us = at_us
    if event.decision == "deny" or event.request_id is None:
        return
    labels = labels_for(
        text_of(event.tenant_id),
        text_of(event.caller_id),
        text_of(event.use_case),
        text_of(event.feature_id),
        text_of(event.experiment_id),
        text_of(event.route_name),
        text_of(event.budget_namespace),
    )
    expires = event.reservation_expires_at
    ledger.admit(
        Admitted(
            text_of(event.request_id) or "",
            at_us,
            to_nano(event.reserved_cost_usd or 0),
            int(event.reserved_tokens or 0),
            parse_micros(expires) if expires else at_us + ledger.policy.ttl_us,
            labels,
            text_of(event.model),
            text_of(event.effective_model_tier),
        )
    )


class LogFollower:
    """One log and the ledger it feeds.

    Args:
        path: the log.
        decisions: whether it is the decision log (else telemetry).

    Attributes:
        rejected: lines that were no events, since the start.
    """

    def __init__(self, path: str | os.PathLike[str], *, decisions: bool) -> None:
        self.path = Path(path)
        self.tail = LogTail(path)
        self.rejected = 0
        self._decisions = decisions

    def fold_new(self, ledger: Ledger) -> None:
        """Fold what was appended since the last look."""
        for chunk in self.tail.poll():
            self._fold(ledger, chunk.data, chunk.offset)

    def fold_since(self, ledger: Ledger, since_us: int) -> None:
        """Fold everything dated from `since_us` on, rotated siblings first, and follow from there."""
        self.tail.seek(0)
        descriptor = self.tail.descriptor
        live = None if descriptor is None else os.fstat(descriptor)
        recent: list[Path] = []
        for sibling in rotated_siblings(self.path):
            stat = sibling.stat()
            if live is not None and (stat.st_dev, stat.st_ino) == (live.st_dev, live.st_ino):
                continue
            last_us = _last_timestamp(sibling)
            if last_us is not None and last_us < since_us:
                break
            recent.append(sibling)
        for sibling in reversed(recent):
            self._fold_sibling(ledger, sibling, since_us)
        if descriptor is not None and live is not None:
            self.tail.seek_open(first_offset_since(descriptor, live.st_size, since_us))
        self.fold_new(ledger)

    def _fold_sibling(self, ledger: Ledger, sibling: Path, since_us: int) -> None:
        with open_log(sibling) as stream:
            if _is_plain(sibling):
                stream.seek(first_offset_since(stream.fileno(), sibling.stat().st_size, since_us))
            offset, rest = stream.tell(), b""
            while data := stream.read(_SIBLING_BYTES):
                data = rest + data
                end = data.rfind(b"\n") + 1
                self._fold(ledger, data[:end], offset)
                offset, rest = offset + end, data[end:]
            if rest:
                self._fold(ledger, rest, offset)

    def _fold(self, ledger: Ledger, data: bytes, offset: int) -> None:
        for at, line in iter_lines(data, offset):
            if not line or line.isspace():
                continue
            try:
                if self._decisions:
                    fold_decision_line(ledger, line)
                    continue
                usage = read_usage(line, "")
                if usage is not None:
                    if not usage.request_id:
                        usage = msgspec.structs.replace(usage, request_id=self._identity(at))
                    ledger.bill(usage)
            except MalformedLine:
                self.rejected += 1

    def _identity(self, offset: int) -> str:
        descriptor = self.tail.descriptor
        head = b"" if descriptor is None else os.pread(descriptor, FINGERPRINT_BYTES, 0)
        return f"line:{fingerprint_of(head).sha256[:32]}:{offset}"


def first_offset_since(fd: int, size: int, since_us: int) -> int:
    """A line's beginning before which every line is dated before `since_us`, given bounded disorder.

    Bisects by the lines' timestamps, allowing 15 minutes of disorder; a probe that hits a line without
    a readable timestamp looks at the next.
    """
    target_us = since_us - DISORDER_US
    low, high = 0, size
    while high - low > _BISECT_UNTIL_BYTES:
        middle = (low + high) // 2
        found = _next_stamped_line(fd, middle, high)
        if found is None:
            high = middle
            continue
        begin, at_us = found
        if at_us < target_us:
            low = begin
        else:
            high = middle
    return low


def _next_stamped_line(fd: int, start: int, end: int) -> tuple[int, int] | None:
    """Offset and instant of the first line that begins after `start` and can be dated."""
    position = start
    pending = b""
    while position < end:
        data = os.pread(fd, _PROBE_BYTES, position)
        if not data:
            return None
        block = pending + data
        block_start = position - len(pending)
        begin = block.find(b"\n") + 1
        while 0 < begin < len(block):
            stop = block.find(b"\n", begin)
            if stop < 0:
                break
            at_us = _timestamp_of(block[begin:stop])
            if at_us is not None:
                return (block_start + begin, at_us) if block_start + begin < end else None
            begin = stop + 1
        pending = block[max(0, begin - 1) :] if begin else b""
        position += len(data)
    return None


def _timestamp_of(line: bytes) -> int | None:
    try:
        stamp = _STAMPED.decode(line).timestamp
        return None if stamp is None else parse_micros(stamp)
    except (msgspec.DecodeError, UnicodeDecodeError, MalformedLine, RecursionError):
        return None


def _is_plain(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) != b"\x1f\x8b"


def _last_timestamp(path: Path) -> int | None:
    """When the last datable line of a plain file was written; None for gzip (it must be read to know)."""
    if not _is_plain(path):
        return None
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _PROBE_BYTES))
        lines = stream.read().splitlines()
    return next((at for at in map(_timestamp_of, reversed(lines)) if at is not None), None)
