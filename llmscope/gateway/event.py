"""From an envelope to the bytes of one telemetry line.

Pure: no clock, no file. What belongs here is the rule that an event is always whole: caller metadata
may add keys but neither replace one that a reader goes by nor make the line unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import msgspec

from llmscope.context import ATTRIBUTION_FIELDS
from llmscope.envelope import LLMRequestEnvelope
from llmscope.errors import MalformedLine
from llmscope.event_log import MAX_LINE_BYTES
from llmscope.telemetry_line import TelemetryLine, decode_telemetry_line

DROPPED_METADATA = "dropped_metadata"
# Readers go by these names: metadata must not decide whether a line is a request, what it cost or whose
# it is. `routing_decision` is metadata by tradition, `selected_model` the gateway's own addition to it.
RESERVED_KEYS = (
    frozenset(field.name for field in fields(LLMRequestEnvelope))
    | frozenset(TelemetryLine.__struct_fields__)
    | {"schema_valid", DROPPED_METADATA}
) - {"routing_decision", "selected_model"}
_LONGEST_DROPPED_NAME = 64
_MOST_DROPPED_NAMES = 32
_DEEPEST_METADATA = 64

_ENCODER = msgspec.json.Encoder()


def event_of(
    envelope: LLMRequestEnvelope, *, timestamp: str, provider: str | None, model: str | None
) -> dict[str, Any]:
    """The event that says what the envelope says, with the keys that older readers look for.

    An unknown cost is written as null rather than left out, so that nobody takes it for 0.
    """
    event = envelope.to_dict()
    event.setdefault("estimated_cost_usd", None)
    if event["status"] == "ok":
        event["status"] = "success"
    event["timestamp"] = timestamp
    event["provider"] = provider
    event["model"] = model
    event["schema_valid"] = True
    return event


def encode_event(
    event: dict[str, Any], metadata: Mapping[str, Any] | None = None, *, with_attribution: bool = False
) -> bytes:
    """One line, without its newline.

    Metadata that cannot be taken (a reserved key, a value that is no JSON, more than fits into a line)
    is left out and its name listed under `dropped_metadata`.

    Args:
        with_attribution: let metadata give tenant, feature and so on where the event has none (the flat
            event of callers who know no context).
    """
    event = {name: value for name, value in event.items() if name != DROPPED_METADATA}
    if not metadata:
        return _encode_own(event)
    merged, dropped = dict(event), []
    for name, value in metadata.items():
        allowed = isinstance(name, str) and (
            name not in RESERVED_KEYS or (with_attribution and name in ATTRIBUTION_FIELDS)
        )
        if not allowed or name in event:
            if event.get(name, _ABSENT) != value:
                dropped.append(name)
        elif _is_encodable(value):
            merged[name] = value
        else:
            dropped.append(name)
    if dropped:
        merged[DROPPED_METADATA] = _names(dropped)
    line = _encode_own(merged)
    try:
        decode_telemetry_line(line)
    except MalformedLine:  # too long or too deep, or attribution of an impossible type
        return _encode_own({**event, DROPPED_METADATA: _names(metadata)})
    return line


def _names(dropped: Any) -> list[str]:
    return [str(name)[:_LONGEST_DROPPED_NAME] for name in dropped][:_MOST_DROPPED_NAMES]


def _is_shallow(value: Any, levels: int = _DEEPEST_METADATA) -> bool:
    """Whether containers nest at most `levels` deep: how deep a reader can go depends on its interpreter."""
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (list, tuple, set, frozenset)):
        return True
    return levels > 0 and all(_is_shallow(item, levels - 1) for item in value)


def _is_encodable(value: Any) -> bool:
    if not _is_shallow(value):
        return False
    try:
        return len(_ENCODER.encode(value)) < MAX_LINE_BYTES
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False


def _encode_own(event: dict[str, Any]) -> bytes:
    try:
        return _ENCODER.encode(event)
    except (TypeError, ValueError, OverflowError):
        # A context or a provider may carry text with lone surrogates, or an object where text belongs:
        # the event matters more than its exact spelling.
        return _ENCODER.encode({name: _made_encodable(value) for name, value in event.items()})


def _made_encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_made_encodable(name): _made_encodable(item) for name, item in value.items()}
    if _is_encodable(value):
        return value
    return str(value).encode("utf-8", "replace").decode("utf-8")


_ABSENT = object()
