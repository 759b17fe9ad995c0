"""Writing telemetry: one line per request into telemetry.jsonl, and the metrics beside it.

The log is the truth and the metrics are a view of it. Writers are kept per path; the path is looked up
when a line is written, never at import. What does not belong here: what an event says (`event`), how a
call is made (`client`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmscope.context import LLMRequestContext
from llmscope.envelope import SCHEMA_VERSION, CostSource, EnvelopeStatus, LLMRequestEnvelope
from llmscope.event_log import LogWriter
from llmscope.gateway import instrumentation
from llmscope.gateway.event import encode_event, event_of
from llmscope.money import from_nano, to_nano
from llmscope.settings import telemetry_path_from
from llmscope.timestamps import format_instant, format_micros

logger = logging.getLogger("llmscope")

# None until somebody patches it; then it beats the environment.
TELEMETRY_PATH: str | os.PathLike[str] | None = None

DEFAULT_TENANT = "default"
_MOST_WRITERS = 32
_writers: dict[str, LogWriter] = {}


def telemetry_path(explicit: str | os.PathLike[str] | None = None) -> Path:
    """Where the next line goes: the argument, else `TELEMETRY_PATH`, else the environment, else the default.

    Raises:
        ConfigurationError: two variables of the environment contradict each other.
    """
    chosen = explicit if explicit is not None else TELEMETRY_PATH
    if chosen is None:
        return telemetry_path_from()
    return chosen if isinstance(chosen, Path) else Path(chosen)


def write_line(path: str | os.PathLike[str], line: bytes) -> int:
    """Append one encoded event to the log at `path`; returns its byte offset.

    Raises:
        EventLogError: the line could not be written; nothing of it is left in the file.
    """
    return _writer_for(path).append(line, unlocked_after_timeout=True)


async def write_line_async(path: str | os.PathLike[str], line: bytes) -> int:
    """`write_line` for a coroutine: while another process holds the lock, the event loop runs on."""
    writer = _writer_for(path)
    offset = writer.try_append(line)
    if offset is not None:
        return offset
    import asyncio  # noqa: PLC0415  the event loop's library is loaded by who runs one

    return await asyncio.to_thread(writer.append, line, unlocked_after_timeout=True)


def _writer_for(path: str | os.PathLike[str]) -> LogWriter:
    key = os.fspath(path)
    writer = _writers.get(key)
    if writer is None:
        if len(_writers) >= _MOST_WRITERS:
            # Forgotten, not closed: it closes itself once nobody is appending through it any more.
            _writers.pop(next(iter(_writers)), None)
        writer = _writers.setdefault(key, LogWriter(path))
    return writer


def emit(
    request_id: str,
    route: str,
    provider: str,
    model: str,
    latency_ms: float,
    status: str,
    tokens_in: int,
    tokens_out: int,
    estimated_cost_usd: float | None,
    cache_hit: bool = False,
    schema_valid: bool = True,
    error_type: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    cost_source: str = CostSource.ESTIMATED_LOCAL_SNAPSHOT.value,
    envelope: LLMRequestEnvelope | None = None,
    *,
    timestamp: datetime | None = None,
    path: str | os.PathLike[str] | None = None,
) -> None:
    """Record one finished request: metrics, then one line of telemetry.

    Args:
        envelope: what the line says; without it a flat event is made of the other arguments, in which
            `error_type` stands even when null.
        metadata: further keys of the line; see `event.encode_event`.
        timestamp: when the request finished; now, if not given.
        path: the log; see `telemetry_path`.

    Raises:
        EventLogError: the line could not be written (the metrics have been recorded).
        ConfigurationError: see `telemetry_path`.
    """
    instrumentation.record_request(
        provider=provider,
        model=model,
        route=route,
        model_tier=(envelope.model_tier if envelope else None) or (metadata or {}).get("routing_decision"),
        status=status,
        latency_ms=latency_ms,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=estimated_cost_usd,
        error_type=error_type,
    )
    stamp = format_instant(timestamp or datetime.now(UTC))
    if envelope is not None:
        event = event_of(envelope, timestamp=stamp, provider=provider, model=model)
        event["schema_valid"] = schema_valid
    else:
        event = {
            "timestamp": stamp,
            "request_id": request_id,
            "route": route,
            "provider": provider,
            "model": model,
            "latency_ms": latency_ms,
            "status": status,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "estimated_cost_usd": None if estimated_cost_usd is None else _quantised(estimated_cost_usd),
            "cost_source": str(cost_source),
            "cache_hit": cache_hit,
            "schema_valid": schema_valid,
            "error_type": error_type,
            "schema_version": SCHEMA_VERSION,
        }
    write_line(telemetry_path(path), encode_event(event, metadata, with_attribution=envelope is None))


def usage_line(
    *,
    request_id: str,
    context: LLMRequestContext,
    route_name: str | None,
    model: str | None,
    tokens_in: int | None,
    tokens_out: int | None,
    cost_source: str,
    timestamp: datetime | int,
    provider: str | None = None,
    model_tier: str | None = None,
    cost_nano: int | None = None,
    status: str = "success",
    finish_reason: str | None = None,
    error_type: str | None = None,
    latency_ms: float | None = None,
    cache_read_tokens: int | None = None,
    cache_write_tokens: int | None = None,
    cache_write_1h_tokens: int | None = None,
    price_version: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> bytes:
    """The line (without newline) for a call that somebody else made: the same event that `call_llm`
    writes, from the same envelope. Write it with `write_line` or `write_line_async`.

    Args:
        cost_nano: the bill in nano-USD; None when nobody knows it.
        cost_source: where the bill comes from, one of `CostSource`.
        timestamp: when the call finished: an aware datetime, or microseconds since 1970.
        status: `success` or `error`.
        extra: further keys, taken as `metadata` is.

    Raises:
        ValueError: `status` or `cost_source` is none of those there are.
    """
    envelope = LLMRequestEnvelope(
        schema_version=SCHEMA_VERSION,
        request_id=request_id,
        route=route_name or "",
        provider_selected=provider,
        model_selected=model,
        model_tier=model_tier,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        tokens_total=None if tokens_in is None or tokens_out is None else tokens_in + tokens_out,
        estimated_cost_usd=None if cost_nano is None else from_nano(cost_nano),
        cost_source=CostSource(cost_source),
        latency_ms=latency_ms,
        status=EnvelopeStatus("ok" if status == "success" else status),
        error_type=error_type,
        finish_reason=finish_reason,
        price_version=price_version if cost_nano is not None else None,
        cache_read_tokens=cache_read_tokens or None,
        cache_write_tokens=cache_write_tokens or None,
        cache_write_1h_tokens=cache_write_1h_tokens or None,
        **attribution_of(context),
    )
    stamp = format_micros(timestamp) if isinstance(timestamp, int) else format_instant(timestamp)
    event = event_of(envelope, timestamp=stamp, provider=provider, model=model)
    if route_name is None:
        del event["route"]
    return encode_event({name: v for name, v in event.items() if v is not None or name in _NULLABLE}, extra)


def attribution_of(context: LLMRequestContext) -> dict[str, Any]:
    """The envelope's fields that a context fills: first-class ones, and again as audit tags."""
    return {
        "tenant_id": context.tenant_id or DEFAULT_TENANT,
        "caller_id": context.caller_id,
        "use_case": context.use_case,
        "feature_id": context.feature_id,
        "experiment_id": context.experiment_id,
        "budget_namespace": context.budget_namespace,
        "audit_tags": context.to_audit_tags(),
    }


def _quantised(usd: float) -> float:
    return from_nano(to_nano(usd))


_NULLABLE = frozenset({"estimated_cost_usd"})
