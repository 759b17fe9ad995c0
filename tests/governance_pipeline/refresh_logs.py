"""Small logs with everything a refresh meets: written line by line, as the gate and the gateway do."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from governance_pipeline.settings import Settings

START = datetime(2026, 11, 19, 8, tzinfo=UTC)
NAMES = ("search", "support")


def settings_in(folder: Path) -> Settings:
    return Settings.in_home(folder)


def instant(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def telemetry_line(number: int, seconds: float, cost_usd: float | None = 0.001, **keys: Any) -> bytes:
    line = {
        "schema_version": "0.1.0",
        "timestamp": instant(seconds),
        "request_id": f"r{number}",
        "tenant_id": f"tenant-{number % 3}",
        "feature_id": NAMES[number % 2],
        "budget_namespace": f"team-{number % 2}",
        "route": "/answer-routed",
        "provider_selected": "openai",
        "model_selected": "gpt-4o-mini",
        "model_tier": "cheap",
        "tokens_in": 100 + number % 7,
        "tokens_out": 20,
        "estimated_cost_usd": cost_usd,
        "latency_ms": 200 + number % 50,
        "status": "success",
        **keys,
    }
    return json.dumps(line).encode() + b"\n"


def decision_line(number: int, seconds: float, decision: str = "allow", **keys: Any) -> bytes:
    line = {
        "schema_version": "0.1.0",
        "timestamp": instant(seconds),
        "request_id": f"r{number}",
        "tenant_id": f"tenant-{number % 3}",
        "feature_id": NAMES[number % 2],
        "budget_namespace": f"team-{number % 2}",
        "charged_namespace": f"team-{number % 2}",
        "route_name": "/answer-routed",
        "model": "gpt-4o-mini",
        "requested_model_tier": "cheap",
        "effective_model_tier": "cheap",
        "decision": decision,
        "reason": "within_budget",
        "mode": "enforce",
        "state": "fresh",
        "estimated_cost_usd": 0.001,
        "requested_estimated_cost_usd": 0.001,
        "rules": [],
        **keys,
    }
    if decision != "deny":
        line |= {"reserved_cost_usd": 0.002, "reservation_expires_at": instant(seconds + 900)}
    return json.dumps(line).encode() + b"\n"


def append(path: Path, *lines: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        log.write(b"".join(lines))


def write_ordinary_logs(settings: Settings, requests: int = 60, *, spacing_seconds: float = 600) -> None:
    """Governed requests over several hours (with 60 and 600 s: ten hours, all on one day), one in ten denied."""
    for number in range(requests):
        at = number * spacing_seconds
        if number % 10 == 9:
            append(settings.decisions_path, decision_line(number, at, "deny", policy_id="cap"))
            continue
        append(settings.decisions_path, decision_line(number, at))
        append(settings.telemetry_path, telemetry_line(number, at + 1, 0.001 + (number % 5) * 1e-9))


def write_cost_history(settings: Settings, hours: int = 8, per_hour: int = 12) -> float:
    """Quiet hours of one feature; returns the second at which they end."""
    lines = [
        telemetry_line(hour * per_hour + n, hour * 3600 + n * 3600 / per_hour, 0.001, feature_id="search")
        for hour in range(hours)
        for n in range(per_hour)
    ]
    append(settings.telemetry_path, *lines)
    return hours * 3600.0


def append_cost_spike(settings: Settings, at_seconds: float, requests: int = 40) -> None:
    """A burst of requests of that feature, each at twenty times the usual cost."""
    append(
        settings.telemetry_path,
        *(
            telemetry_line(100_000 + n, at_seconds + n * 2, 0.02, feature_id="search")
            for n in range(requests)
        ),
    )
