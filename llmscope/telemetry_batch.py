"""Reading a stretch of telemetry at once, for who folds a million lines before the first decision.

Lines that say the same but for id, time, cost and tokens become one `Bills`. What they say is decided in
`telemetry_line`: it reads one line of each kind. A stretch with any line that is not plain, or not valid,
has no batch; its reader takes it line by line.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from keyword import iskeyword
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from llmscope.errors import MalformedLine
from llmscope.event_log import MAX_LINE_BYTES
from llmscope.money import MAX_USD, to_nanos
from llmscope.telemetry_line import MOST_TOKENS, TelemetryLine, Usage, cost_is_unknown, normalise
from llmscope.timestamps import parse_our_micros

_Tokens = Annotated[int, Meta(ge=0, lt=MOST_TOKENS)] | None


class _PlainTags(msgspec.Struct, frozen=True, gc=False):
    """`Tags`, all of it text."""

    tenant_id: str | None = None
    caller_id: str | None = None
    use_case: str | None = None
    feature_id: str | None = None
    experiment_id: str | None = None
    budget_namespace: str | None = None


class _PlainLine(TelemetryLine, gc=False):
    """The line of a request as our writers and the original's make it: types and limits are checked while
    it is decoded. Numbers elsewhere and other dialects are left to `TelemetryLine`."""

    event: None = None
    timestamp: str = ""
    request_id: str = ""
    tenant_id: str | None = None
    caller_id: str | None = None
    use_case: str | None = None
    feature_id: str | None = None
    experiment_id: str | None = None
    budget_namespace: str | None = None
    route: str | None = None
    model_selected: str | None = None
    model_tier: str | None = None
    tokens_in: _Tokens = None
    tokens_out: _Tokens = None
    tokens: None = None
    estimated_cost_usd: Annotated[float, Meta(ge=0, lt=MAX_USD)] | None = None
    cost_usd: None = None
    cost_source: str | None = None
    status: str | None = None
    finish_reason: str | None = None
    audit_tags: _PlainTags | None = None  # type: ignore[assignment]  # read like `Tags`
    metadata: None = None


# Everything that `normalise` makes a bill's labels, success and unknown cost of, where the three that are
# required below are there.
_LABELS = (
    "tenant_id", "caller_id", "use_case", "feature_id", "experiment_id", "budget_namespace", "route",
    "model_selected", "model_tier", "status", "finish_reason", "cost_source", "audit_tags",
)  # fmt: skip
# Past so many kinds they are looked at anew.
_MOST_KINDS = 4096
# So many lines are worth a decoder of their own.
_LEARN_FROM_LINES = 100
_decode_any: Callable[[bytes], _PlainLine] = msgspec.json.Decoder(_PlainLine).decode


class Bills(msgspec.Struct, gc=False):
    """Requests of known cost in the order of their time, in columns.

    Attributes:
        kinds: what each has in common with others, see `BatchReader.likes`.
        request_ids, at_us, cost_nano: of each; microseconds since 1970, nano-USD.
        tokens: input tokens of each, and output tokens of each.
        latest_us: the latest instant of a line, known cost or not.
    """

    kinds: list[int]
    request_ids: list[str]
    at_us: list[int]
    cost_nano: list[int]
    tokens: tuple[list[int | None], list[int | None]]
    latest_us: int


class BatchReader:
    """Reads stretches of a log one after the other, and learns how its lines look.

    Attributes:
        likes: of each kind of line met so far one line, for what all of the kind have in common: labels,
            route, model, tier, success. None where that is an unknown cost. Good until the next `read`.
    """

    def __init__(self) -> None:
        self.likes: list[Usage | None] = []
        self._numbers: dict[Any, int] = {}
        self._decode = _decode_any
        self._shared: dict[str, Any] | None = None
        self._labels: Callable[[_PlainLine], Any] | None = attrgetter(*_LABELS)

    def read(self, data: bytes) -> Bills | None:
        """The bills in `data`, whole lines with their newlines; None when it must be read line by line."""
        if len(data) >= MAX_LINE_BYTES:  # a line in it might be too long
            return None
        texts = data.split(b"\n")
        if texts.pop() or not texts:
            return None
        try:
            if not data.isascii():
                data.decode("utf-8")  # all of it, as for a single line
            lines = self._lines(texts)
            kinds = self._kinds_of(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MalformedLine):
            return None
        at_us = parse_our_micros([line.timestamp for line in lines])
        request_ids = [line.request_id for line in lines]
        if at_us is None or "" in request_ids:
            return None
        cost_usd = [line.estimated_cost_usd for line in lines]
        tokens = [line.tokens_in for line in lines], [line.tokens_out for line in lines]
        columns: list[list[Any]] = [kinds, request_ids, at_us, cost_usd, *tokens]
        in_order = sorted(at_us)
        if at_us != in_order:
            order = sorted(range(len(at_us)), key=at_us.__getitem__)
            columns = [[column[place] for place in order] for column in columns]
        if None in cost_usd or None in self.likes:
            known = [
                cost is not None and self.likes[kind] is not None
                for kind, cost in zip(columns[0], columns[3], strict=True)
            ]
            columns = [list(compress(column, known)) for column in columns]
        kinds, request_ids, at_us, cost, tokens_in, tokens_out = columns
        return Bills(kinds, request_ids, at_us, to_nanos(cost), (tokens_in, tokens_out), in_order[-1])

    def _lines(self, texts: list[bytes]) -> list[_PlainLine]:
        if self._shared is not None:
            try:
                return list(map(self._decode, texts))
            except msgspec.ValidationError:
                pass  # another label, or a line that is not plain: the next decoder tells which
        lines = list(map(_decode_any, texts))
        if self._shared is not None or len(lines) >= _LEARN_FROM_LINES:
            self._learn(texts[0], lines)
        return lines

    def _learn(self, text: bytes, lines: list[_PlainLine]) -> None:
        """Have the lines to come read by a decoder that expects the keys in the order of `text`, and only the
        labels that all lines so far have shared: what it has checked need not be compared any more."""
        shared = {}
        for name in _LABELS if self._shared is None else self._shared:
            values = [getattr(line, name) for line in lines]
            if self._shared is not None:
                values.append(self._shared[name])
            if values.count(values[0]) == len(values):
                shared[name] = values[0]
        if shared == self._shared:
            return
        self._shared = shared
        self._decode = _decoder_of(msgspec.json.decode(text), shared)
        differing = [name for name in _LABELS if name not in shared]
        self._labels = attrgetter(*differing) if differing else None
        self.likes, self._numbers = [], {}

    def _kinds_of(self, lines: list[_PlainLine]) -> list[int]:
        """Of each line its kind."""
        if len(self.likes) >= _MOST_KINDS:
            self.likes, self._numbers = [], {}
        said = [None] if self._labels is None else list(map(self._labels, lines))
        if said.count(said[0]) == len(said):  # as in the log of a small service
            return [self._number_of(said[0], lines[0])] * len(lines)
        try:
            return [self._numbers[what] for what in said]
        except KeyError:
            return list(map(self._number_of, said, lines))

    def _number_of(self, what: Any, line: _PlainLine) -> int:
        """The kind of a line that says `what`.

        Raises:
            MalformedLine: see `_like`.
        """
        number = self._numbers.get(what)
        if number is None:
            self.likes.append(_like(line))
            number = self._numbers[what] = len(self.likes) - 1
        return number


def _decoder_of(line: dict[str, Any], shared: dict[str, Any]) -> Callable[[bytes], _PlainLine]:
    """A decoder of plain lines with the labels `shared`, quickest where their keys stand as in `line`."""
    known = {field.name: field for field in msgspec.structs.fields(_PlainLine)}
    fields: list[Any] = []
    for name in dict.fromkeys((*line, *known)):
        if name in shared:
            fields.append(_only(name, shared[name]))
        elif name in known:
            fields.append((name, known[name].type, known[name].default))
        elif isinstance(line[name], int | float) and name.isidentifier() and not iskeyword(name):
            # Without meaning here: met at its place it is passed over sooner.
            fields.append((name, Any, None))
    learned: Any = msgspec.defstruct("LearnedLine", fields, kw_only=True, gc=False)
    decode: Callable[[bytes], _PlainLine] = msgspec.json.Decoder(learned).decode
    return decode


def _only(name: str, value: Any) -> tuple[Any, ...]:
    """The field that takes this value and no other."""
    if value is None:
        return name, None, None
    if isinstance(value, str):
        return name, Literal[value]
    of = [_only(tag, getattr(value, tag)) for tag in value.__struct_fields__]
    return name, msgspec.defstruct("LearnedTags", of, kw_only=True, frozen=True, gc=False)


def _like(line: _PlainLine) -> Usage | None:
    """What all lines of a kind say, None when it is that their cost is unknown.

    Raises:
        MalformedLine: it is for `normalise` to find that out in each.
    """
    if not (line.route and line.model_selected and line.status):
        raise MalformedLine("not_plain")
    return None if cost_is_unknown(line, line.status) else normalise(line, "")
