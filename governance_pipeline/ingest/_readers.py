"""What a valid line is, per log: the very functions that the gate reads with.

Some hundred lines are decoded at once, by a decoder that is a little stricter than the gate's. Where it
refuses, they are read line by line, and a line that it still refuses by the gate's own function, which names
the reason.
Valid lines are encoded again, with the known keys only: a key that stands twice has become one, so
that Python and SQL cannot read it differently, and nothing unknown reaches SQL. Instants are written in one
form for the same reason.

What does not belong here: what a line means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta

from governance_pipeline.ingest._instants import are_all_canonical
from governance_pipeline.ingest._lines import HEAD_BYTES, Block, LongLine
from governance_pipeline.log_files import Log
from llmscope.errors import MalformedLine
from llmscope.event_log import MAX_LINE_BYTES
from llmscope.money import MAX_USD
from llmscope.telemetry_line import TelemetryLine, TokenCounts, decode_telemetry_line
from llmscope.timestamps import format_micros, parse_micros
from policy_runtime.decision_record import DecisionRecord, decode_decision

# What is decoded at once, with what it becomes, stays in the processor's nearer cache; and a malformed line
# has only these read one by one.
_GROUP_BYTES = 128 << 10
LINES_SCHEMA = pa.schema([("line_offset", pa.int64()), ("line", pa.large_string())])
_NEWLINE, _OPENING, _CLOSING = b"\n{}"
_AnyNumber = int | float | None
_Count = Annotated[int, Meta(ge=0, lt=1 << 53)] | None
_Usd = Annotated[int, Meta(ge=0, lt=MAX_USD)] | Annotated[float, Meta(ge=0, lt=MAX_USD)] | None
_Number = Annotated[int, Meta(gt=-(1 << 62), lt=1 << 62)] | float | None


class _Tokens(TokenCounts, gc=False):
    input: _Count = None
    output: _Count = None


# The order in which llmscope writes its keys: msgspec looks for the next key after the last one found.
_TELEMETRY_ORDER = [
    "schema_version",
    "request_id",
    "tenant_id",
    "route",
    "caller_id",
    "use_case",
    "feature_id",
    "experiment_id",
    "budget_namespace",
    "provider_requested",
    "provider_selected",
    "model_selected",
    "model_tier",
    "tokens_in",
    "tokens_out",
    "estimated_cost_usd",
    "cost_source",
    "latency_ms",
    "status",
    "error_type",
    "cache_hit",
    "audit_tags",
    "timestamp",
    "provider",
    "model",
    "selected_model",
]


_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that is not one of ours."""

    line_offset: int
    line_bytes: int
    reason: str
    detail: str
    head: bytes


@dataclass(slots=True)
class Batch:
    """What the lines of one block are: the valid ones (where each begins, and itself), rejects, blanks."""

    lines: pa.RecordBatch
    rejects: list[Reject]
    blanks: int


@dataclass(slots=True)
class _Group:
    """Neighbouring lines as they are read: the valid ones decoded, and where in the block each stands."""

    rows: list[Any]
    starts: _Places
    ends: _Places
    rejects: list[Reject]
    blanks: int = 0


class LineReader:
    """Reads the lines of one log.

    Args:
        log: which.
        accept: the gate's reader of one line; raises `MalformedLine`.
        fast: a stricter schema of the same lines.
        lenient: the gate's own schema in the same shape.
        instants: fields that hold timestamps.
    """

    def __init__(
        self,
        log: Log,
        accept: Callable[[bytes], msgspec.Struct],
        fast: type[msgspec.Struct],
        lenient: type[msgspec.Struct],
        instants: tuple[str, ...],
    ) -> None:
        self.log = log
        self.instants = instants
        self._accept = accept
        self._fast = msgspec.json.Decoder(fast)
        self._lenient = msgspec.json.Decoder(lenient)
        self._encode_lines = msgspec.json.Encoder().encode_lines

    def read(self, block: Block) -> Batch:
        """Every line of a block: a row, a reject or a blank."""
        data = np.frombuffer(block.data, np.uint8)
        ends = np.flatnonzero(data == _NEWLINE)
        if data[-1] != _NEWLINE:
            ends = np.append(ends, len(data))
        starts = np.concatenate(([0], ends[:-1] + 1))
        looks_whole = (data[starts] == _OPENING) & (data[ends - 1] == _CLOSING)
        looks_whole &= ends - starts < MAX_LINE_BYTES
        encoded, offsets = [], []
        rejects: list[Reject] = []
        blanks = first = 0
        while first < len(starts):
            last = int(np.searchsorted(starts, starts[first] + _GROUP_BYTES))
            group = self._read_together(block, starts[first:last], ends[first:last], looks_whole[first:last])
            if group is None:
                group = self._read_one_by_one(block, starts[first:last], ends[first:last])
            self._settle_instants(block, group)
            encoded.append(self._encode_lines(group.rows))
            offsets.append(block.offset + group.starts)
            rejects += group.rejects
            blanks += group.blanks
            first = last
        return Batch(_lines_of(np.concatenate(offsets), b"".join(encoded)), rejects, blanks)

    def _read_together(
        self, block: Block, starts: _Places, ends: _Places, looks_whole: npt.NDArray[np.bool_]
    ) -> _Group | None:
        """Neighbouring lines in one call; None when there is anything about them that it might pass over.

        The decoder takes one object after the other and minds no line ends. But each line begins with `{` and
        ends with `}`, and within an object no newline can stand between those two: so there is at least one
        object in each line, and with as many objects as lines just one.
        """
        if not looks_whole.all():
            return None
        text = bytes(block.data[starts[0] : ends[-1]])
        try:
            if not text.isascii():
                text.decode("utf-8")  # the decoder looks at the texts only that it keeps
            rows = self._fast.decode_lines(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return _Group(rows, starts, ends, []) if len(rows) == len(starts) else None

    def _read_one_by_one(self, block: Block, starts: _Places, ends: _Places) -> _Group:
        """Neighbouring lines, each for itself."""
        group = _Group([], starts, ends, [])
        left_out = []
        for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            line = bytes(block.data[start:end])
            if not line or line.isspace():
                group.blanks += 1
                left_out.append(number)
                continue
            try:
                group.rows.append(self._row_of(line))
            except MalformedLine as malformed:
                group.rejects.append(reject_of(block.offset + start, line, malformed))
                left_out.append(number)
        group.starts, group.ends = np.delete(starts, left_out), np.delete(ends, left_out)
        return group

    def _row_of(self, line: bytes) -> msgspec.Struct:
        """One line as the gate reads it, but for its instants.

        Raises:
            MalformedLine: it is a reject.
        """
        row: msgspec.Struct
        if len(line) < MAX_LINE_BYTES and (line.isascii() or _is_utf8(line)):
            try:
                row = self._fast.decode(line)
            except (msgspec.DecodeError, RecursionError):
                pass  # the gate's reader may still take it, and knows the reason if not
            else:
                return row
        self._accept(line)
        row = self._lenient.decode(line)
        return row

    def _settle_instants(self, block: Block, group: _Group) -> None:
        """Have every instant of the rows written as our own writer does; lines with one that cannot be read
        become rejects."""
        refused: dict[int, MalformedLine] = {}
        for name in self.instants:
            written = list(map(attrgetter(name), group.rows))
            if are_all_canonical([text for text in written if text is not None]):
                continue
            for number, text in enumerate(written):
                if text is not None:
                    try:
                        setattr(group.rows[number], name, format_micros(parse_micros(text)))
                    except MalformedLine as malformed:
                        refused.setdefault(number, malformed)
        if not refused:
            return
        for number, refusal in refused.items():
            start = int(group.starts[number])
            line = bytes(block.data[start : group.ends[number]])
            group.rejects.append(reject_of(block.offset + start, line, refusal))
        group.rejects.sort(key=attrgetter("line_offset"))
        group.rows = [row for number, row in enumerate(group.rows) if number not in refused]
        group.starts = np.delete(group.starts, list(refused))


def _lines_of(offsets: _Places, encoded: bytes) -> pa.RecordBatch:
    """Lines with where each began. No encoded line holds a newline but the one at its end: JSON writes those
    within texts as `\\n`."""
    ends = np.flatnonzero(np.frombuffer(encoded, np.uint8) == _NEWLINE) + 1
    bounds = np.concatenate(([0], ends)).astype(np.int64)
    lines = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(bounds), pa.py_buffer(encoded))
    places = pa.Int64Array.from_buffers(pa.int64(), len(offsets), [None, pa.py_buffer(offsets)])
    return pa.record_batch([places, lines], LINES_SCHEMA)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def reject_of(offset: int, line: bytes, malformed: MalformedLine) -> Reject:
    """The reject for a line that a reader refused."""
    return Reject(offset, len(line), malformed.reason, malformed.detail, line[:HEAD_BYTES])


def reject_of_long(line: LongLine) -> Reject:
    """The reject for a line too long to be kept in memory."""
    return Reject(line.offset, line.line_bytes, "too_long", f"{line.line_bytes} bytes", line.head)


def reader_for(log: Log) -> LineReader:
    """The reader of one of the two logs."""
    if log == "telemetry":
        usd = dict.fromkeys(("estimated_cost_usd", "cost_usd"), _Usd)
        counts = dict.fromkeys(("tokens_in", "tokens_out"), _Count)
        numbers = dict.fromkeys(
            ("latency_ms", "retry_count", "cache_read_tokens", "cache_write_tokens"), _Number
        )
        stricter = {"timestamp": str, **usd, **counts, **numbers, "tokens": _Tokens | None}
        fast = _row_type(TelemetryLine, stricter, _TELEMETRY_ORDER)
        lenient = _row_type(TelemetryLine, {}, _TELEMETRY_ORDER)
        return LineReader(log, decode_telemetry_line, fast, lenient, ("timestamp",))
    stricter = {"timestamp": str}
    for info in msgspec.structs.fields(DecisionRecord):
        if info.name in ("estimated_cost_usd", "requested_estimated_cost_usd", "reserved_cost_usd"):
            stricter[info.name] = _Usd
        elif info.type == _AnyNumber:
            stricter[info.name] = _Number
    return LineReader(
        log,
        decode_decision,
        _row_type(DecisionRecord, stricter),
        _row_type(DecisionRecord, {}),
        ("timestamp", "reservation_expires_at"),
    )


def _row_type(
    schema: type[msgspec.Struct], stricter: dict[str, Any], order: list[str] | None = None
) -> type[msgspec.Struct]:
    """`schema` with some types narrowed, its fields in the order in which they are met, nulls left out
    when encoded. A type that admits no null makes its field one that must be there."""
    types = {info.name: info.type for info in msgspec.structs.fields(schema)}
    names = [*(order or []), *(name for name in types if name not in (order or []))]
    fields = [
        (name, stricter[name]) if stricter.get(name) is str else (name, stricter.get(name, types[name]), None)
        for name in names
    ]
    return msgspec.defstruct(f"{schema.__name__}Row", fields, kw_only=True, omit_defaults=True, gc=False)
