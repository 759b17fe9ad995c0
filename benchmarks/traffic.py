"""Logs of made-up traffic for the benchmarks: lines with the keys, the order and the lengths of the lines that
gate and gateway write (about 660 bytes of telemetry, 1,090 of a decision), any number of them in seconds.

What does not belong here: measuring (`warehouse`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = datetime(2026, 9, 1, tzinfo=UTC)
# One request every 2.592 s: a million of them are thirty days, a hundred thousand are three.
SPACING_US = 2_592_000
MALFORMED = (
    b'{"schema_version":"0.1.0","request_id":"torn',
    b'{"schema_version":"0.1.0","request_id":"r","timestamp":"2026-09-01T00:00:00Z","estimated_cost_usd":-1}',
    b'{"schema_version":"0.1.0","request_id":"r","timestamp":"yesterday","estimated_cost_usd":0.1}',
    b"\xff\xfe not JSON at all",
)

_TELEMETRY = (
    b'{"schema_version":"0.1.0","request_id":"%(id)b","tenant_id":"tenant-%(tenant)02d","route":"/route-%(route)d",'
    b'"provider_selected":"openai","model_selected":"gpt-4o-mini","model_tier":"cheap","tokens_in":%(tokens)d,'
    b'"tokens_out":50,"tokens_total":%(total)d,"estimated_cost_usd":%(cost)b,'
    b'"cost_source":"%(source)b","latency_ms":%(latency)b,"status":"%(status)b","eval_hooks":[],'
    b'"audit_tags":{"feature_id":"feature-%(feature)d","budget_namespace":"team-%(team)d"},'
    b'"feature_id":"feature-%(feature)d","budget_namespace":"team-%(team)d",%(more)b'
    b'"price_version":"llmscope-2026-03-19","timestamp":"%(at)b","provider":"openai","model":"gpt-4o-mini",'
    b'"schema_valid":true}\n'
)
_FALLBACK = (
    b'"fallback_triggered":true,"fallback_reason":"timeout","retry_count":0,"attempts":[{"provider":"openai",'
    b'"model":"gpt-4o","latency_ms":900.5,"status":"error","error_type":"timeout"},{"provider":"openai",'
    b'"model":"gpt-4o-mini","latency_ms":310.25,"status":"success"}],'
)
_DECISION = (
    b'{"schema_version":"0.1.0","timestamp":"%(at)b","request_id":"%(id)b","tenant_id":"tenant-%(tenant)02d",'
    b'"feature_id":"feature-%(feature)d","budget_namespace":"team-%(team)d","charged_namespace":"team-%(team)d",'
    b'"route_name":"/route-%(route)d","model":"gpt-4o-mini","requested_model_tier":"%(asked)b",'
    b'"effective_model_tier":"cheap","decision":"%(decision)b",%(named)b"mode":"enforce","state":"fresh",'
    b'"estimated_cost_usd":0.00033165,"requested_estimated_cost_usd":0.00133165,%(reservation)b'
    b'"estimated_tokens_in":211,"reserved_tokens":711,"latency_ms":0.036,"window_cost_usd":12.3456,'
    b'"window_reserved_usd":0.00133,"window_limit_usd":50.0,"window_start":"%(at)b",'
    b'"policy_hash":"8544249d4a749c13","price_version":"llmscope-2026-03-19","rules":[{"policy_id":"hour",'
    b'"primitive":"budget_threshold","mode":"enforce","outcome":"allow","spent_usd":12.3456,"reserved_usd":0.00133,'
    b'"reservation_usd":0.00033165,"limit_usd":50.0},{"policy_id":"route","primitive":"route_preference",'
    b'"mode":"enforce","outcome":"not_applicable"}]}\n'
)


def telemetry_lines(first: int, last: int) -> Iterator[bytes]:
    """Telemetry of the requests `first` to `last` - 1. Of a hundred, five have none: denied or lost."""
    for number in range(first, last):
        if number % 100 >= 5:
            yield _telemetry_line(number)


def decision_lines(first: int, last: int) -> Iterator[bytes]:
    """Decisions on those requests. Of a hundred, four are denials and six are downgrades."""
    for number in range(first, last):
        denied, downgraded = number % 100 < 4, 50 <= number % 100 < 56
        at = _instant(number, 0)
        lease = b'"reserved_cost_usd":0.00033165,"reservation_expires_at":"%b",' % _instant(
            number, 900_000_000
        )
        yield _DECISION % {
            **_attribution(number),
            b"at": at,
            b"decision": b"deny" if denied else b"downgrade" if downgraded else b"allow",
            b"asked": b"expensive" if downgraded else b"cheap",
            b"named": b'"reason":"budget","policy_id":"hour","primitive":"budget_threshold",'
            if denied or downgraded
            else b"",
            b"reservation": b"" if denied else lease,
        }


def write(path: Path, lines: Iterable[bytes], *, append: bool = False) -> int:
    """Write lines to a file; the number of bytes."""
    size = 0
    with path.open("ab" if append else "wb") as log:
        source = iter(lines)
        while piece := b"".join(itertools.islice(source, 10_000)):
            size += log.write(piece)
    return size


def _telemetry_line(number: int) -> bytes:
    failed, fallback, unknown = number % 50 == 7, number % 40 == 9, number % 200 == 11
    more = b'"error_type":"server_error",' if failed else b'"finish_reason":"stop",'
    if number % 10 == 3:
        more += b'"experiment_id":"%b",' % (b"short-prompt" if number % 20 == 3 else b"control")
    if fallback:
        more += _FALLBACK
    tokens = 100 + number * 7 % 900
    return _TELEMETRY % {
        **_attribution(number),
        b"at": _instant(number, 350_000),
        b"tokens": tokens,
        b"total": tokens + 50,
        b"cost": b"null" if unknown else b"%.9f" % (tokens * 1.5e-7 + 3e-5),
        b"source": b"degraded_unknown" if unknown else b"estimated_local_snapshot",
        b"latency": b"%.3f" % (1210.75 if fallback else 200 + number * 13 % 5000 / 10),
        b"status": b"error" if failed else b"success",
        b"more": more,
    }


def _attribution(number: int) -> dict[bytes, bytes | int]:
    spread = number * 2654435761 >> 7
    return {
        b"id": b"%08x-ff39-4d0e-ab77-%012x" % (spread & 0xFFFFFFFF, number),
        b"tenant": spread % 23,
        b"route": spread % 9,
        b"feature": spread % 13,
        b"team": spread % 5,
    }


def _instant(number: int, later_us: int) -> bytes:
    at = START + timedelta(microseconds=number * SPACING_US + later_us)
    return at.isoformat(timespec="microseconds").encode()
