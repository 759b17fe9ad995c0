"""What a valid line is, per log: the very functions that the gate reads with.

A block is decoded by a decoder that is a little stricter than the gate's (one C call a line); the lines
that it refuses are read by the gate's own function, which names the reason.
Valid lines are encoded again, with the known keys only: a key that stands twice has become one, so
that Python and SQL cannot read it differently, and nothing unknown reaches SQL.

What does not belong here: what a line means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta

from governance_pipeline.ingest._lines import HEAD_BYTES, Block, LongLine
from governance_pipeline.log_files import Log
from llmscope.errors import MalformedLine
from llmscope.event_log import MAX_LINE_BYTES
from llmscope.money import MAX_USD
from llmscope.telemetry_line import TelemetryLine, TokenCounts, decode_telemetry_line
from llmscope.timestamps import parse_micros
from policy_runtime.decision_record import DecisionRecord, decode_decision

_NEWLINE = ord("\n")
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
    """The valid lines of one block, as columns: where each begins, and itself."""

    block: Block
    columns: dict[str, pa.Array]
    rejects: list[Reject] = field(default_factory=list)
    blanks: int = 0

    @property
    def rows(self) -> int:
        """How many lines are valid so far (the instants are judged when the batch is loaded)."""
        return len(self.columns["line_offset"])

    def line_at(self, offset: int) -> bytes:
        """The line that begins at `offset` of the file, without its newline."""
        begin = offset - self.block.offset
        end = self.block.data.find(b"\n", begin)
        return self.block.data[begin : end if end >= 0 else len(self.block.data)]


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
        lines = block.data.split(b"\n")
        if block.data.endswith(b"\n"):
            lines.pop()
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        offsets = block.offset + np.concatenate(([0], np.cumsum(lengths[:-1] + 1)))
        rows: list[Any] = []
        left_out: list[int] = []
        rejects: list[Reject] = []
        feed = iter(_without_suspects(block, lines, lengths))
        while True:
            try:
                # One call decodes up to the first line that the fast decoder refuses; those before it stay.
                rows.extend(map(self._fast.decode, feed))
                break
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                number = len(rows) + len(left_out)
            line = lines[number]
            if not line or line.isspace():
                left_out.append(number)
                continue
            try:
                rows.append(self._read_carefully(line))
            except MalformedLine as malformed:
                left_out.append(number)
                rejects.append(reject_of(int(offsets[number]), line, malformed))
        kept = np.delete(offsets, left_out) if left_out else offsets
        return Batch(block, self._columns_of(rows, kept), rejects, len(left_out) - len(rejects))

    def check(self, line: bytes) -> msgspec.Struct:
        """What the gate makes of one line, instants included.

        Raises:
            MalformedLine: it is a reject.
        """
        parsed = self._accept(line)
        for name in self.instants:
            written = getattr(parsed, name)
            if written is not None:
                parse_micros(written)
        return parsed

    def _read_carefully(self, line: bytes) -> msgspec.Struct:
        """A line that the fast decoder refused, as the gate reads it.

        Raises:
            MalformedLine: it is a reject.
        """
        self.check(line)
        row: msgspec.Struct = self._lenient.decode(line)
        return row

    def _columns_of(self, rows: list[Any], offsets: npt.NDArray[np.int64]) -> dict[str, pa.Array]:
        # No line holds a newline but the one at its end: JSON writes those within texts as `\\n`.
        encoded = self._encode_lines(rows)
        ends = np.flatnonzero(np.frombuffer(encoded, np.uint8) == _NEWLINE) + 1
        bounds = np.concatenate(([0], ends)).astype(np.int64)
        line = pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(bounds), pa.py_buffer(encoded))
        return {"line_offset": pa.array(offsets, pa.int64()), "line": line}


def _without_suspects(block: Block, lines: list[bytes], lengths: npt.NDArray[np.int64]) -> list[bytes]:
    """The lines, with nothing in the place of those that the fast decoder might take and the gate does not:
    over-long ones, and ones that are not UTF-8 (it looks at the texts only that it decodes)."""
    suspects = np.flatnonzero(lengths >= MAX_LINE_BYTES).tolist()
    if not block.data.isascii():
        try:
            block.data.decode("utf-8")
        except UnicodeDecodeError:
            suspects += [
                number for number, line in enumerate(lines) if not line.isascii() and not _is_utf8(line)
            ]
    if not suspects:
        return lines
    left = list(lines)
    for number in suspects:
        left[number] = b""
    return left


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
        stricter = {**usd, **counts, **numbers, "tokens": _Tokens | None}
        fast = _row_type(TelemetryLine, stricter, _TELEMETRY_ORDER)
        lenient = _row_type(TelemetryLine, {}, _TELEMETRY_ORDER)
        return LineReader(log, decode_telemetry_line, fast, lenient, ("timestamp",))
    stricter = {}
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
    when encoded."""
    types = {info.name: info.type for info in msgspec.structs.fields(schema)}
    names = [*(order or []), *(name for name in types if name not in (order or []))]
    fields = [(name, stricter.get(name, types[name]), None) for name in names]
    return msgspec.defstruct(f"{schema.__name__}Row", fields, omit_defaults=True, gc=False)
