"""Random traffic in two growing logs, and what a ledger that has folded them says, for every test of starts."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscope.clock import VirtualClock
from llmscope.timestamps import MICROS, parse_micros
from policy_runtime.ledger import Ledger
from policy_runtime.live_state import LiveState
from policy_runtime.policy import Policy
from tests.policy_runtime.log_lines import START, decision_line, encode, original_line, stamp

SLOW = os.environ.get("GOVERNANCE_SLOW") == "1"
DISORDER_SECONDS = 15 * 60
BUDGET = {"primitive": "budget_threshold", "limit_usd": 5.0, "action": "deny"}
POLICY = Policy.model_validate(
    {
        "reservation_ttl_seconds": 1800.0,
        "namespaces": {
            "default": {
                "rules": [
                    {"id": "hour", "period": "hourly", **BUDGET},
                    {"id": "tenant", "period": "hourly", "per": ["tenant_id"], **BUDGET},
                    {"id": "clock", "period": "hourly", "window": "calendar", **BUDGET},
                    {
                        "id": "rate", "primitive": "rate_limit",
                        "requests_per_minute": 50, "tokens_per_minute": 9000, "per": ["tenant_id"],
                    },
                    {"id": "odd", "primitive": "cost_anomaly", "baseline_window_hours": 1.5},
                ]
            }
        }
    }
)  # fmt: skip
BAD_LINES = (
    b"", b"   ", b"{", b'{"request_id":"torn","estimated_cost_usd":0.', b"\xff\xfe\x00", b"[1,2]", b"null",
    b'{"timestamp":"1970-01-01T00:00:00+00:00"}', b'{"timestamp":17,"request_id":"x"}', b"x" * 3000,
)  # fmt: skip


def readings(ledger: Ledger, now_us: int) -> dict[str, Any]:
    """Everything that a decision at `now_us` could depend on."""
    meters = {
        (book.rule.id, number, scope): tuple(meter.read(now_us))
        for book in ledger.books("default")
        for number, limit in enumerate(book.meters)
        for scope, meter in limit.by_scope.items()
        if any(meter.read(now_us))
    }
    means = {
        (tenant, tier): (
            ledger.mean_cost_nano("/answer-routed", None),
            ledger.mean_output_tokens("/answer-routed", "gpt-4o"),
            ledger.baseline(POLICY.namespaces["default"].rules[4].baseline_us, "chat", tier),  # type: ignore[arg-type]
        )
        for tenant in ("a", "b")
        for tier in ("expensive", "cheap")
    }
    open_ids = {held.admitted.request_id: held.expires_us for held in ledger.open_reservations()}
    estimates = {key: (count, sums) for key, count, sums in ledger.estimates()}
    return {
        "meters": meters, "means": means, "open": open_ids, "last": ledger.last_decision_us,
        "estimates": estimates,
    }  # fmt: skip


@dataclass
class Traffic:
    """Random events in two growing logs, rotated in every way."""

    folder: Path
    rng: random.Random
    rotates: bool = True
    destroys: bool = False
    seconds: float = 0.0
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START))
    bills: list[tuple[int, int]] = field(default_factory=list)
    rotations: int = 0

    def __post_init__(self) -> None:
        self.telemetry, self.decisions = self.folder / "t.jsonl", self.folder / "d.jsonl"
        self._waiting: list[str] = []
        self._known: list[tuple[str, float]] = []
        self._number = 0
        self._steps = 0

    def state(self) -> LiveState:
        return LiveState((self.telemetry,), self.decisions, self.clock, POLICY)

    def step(self) -> None:
        """Time passes, one event is appended, something may happen to the files."""
        rng = self.rng
        self._steps += 1
        passed = rng.choice((0.0, 1.0, 20.0, 60.0))
        self.seconds += passed
        self.clock.advance(passed)
        kind = rng.random()
        if kind < 0.4:
            self._decide()
        elif kind < 0.8:
            self._bill()
        elif kind < 0.85:
            negative = {"timestamp": stamp(self.seconds), "request_id": "n", "estimated_cost_usd": -1}
            bad = rng.choice((*BAD_LINES, encode({**negative, "reserved_cost_usd": -1})))
            if len(bad) > 1000:  # no two files begin with the same 1024 bytes
                bad = b"%d" % self._steps + bad
            self._append(rng.choice((self.telemetry, self.decisions)), bad)
        elif kind < 0.88 and self._known:
            request_id, decided = rng.choice(self._known[-20:])
            extension = {
                "event": "reservation_extended", "timestamp": stamp(self.seconds), "request_id": request_id,
                "reservation_expires_at": stamp(max(self.seconds, decided + 3 * rng.randrange(0, 1800))),
            }  # fmt: skip
            self._append(self.decisions, encode(extension))
        elif kind < 0.91 and self.rotates:
            self._rotate(rng.choice((self.telemetry, self.decisions)))

    def _append(self, path: Path, line: bytes) -> None:
        with path.open("ab") as log:
            log.write(line + b"\n")

    def _decide(self) -> None:
        self._number += 1
        request_id = f"r{self._number}"
        self._waiting.append(request_id)
        self._known.append((request_id, self.seconds))
        line = decision_line(
            self.seconds, self.rng.randrange(0, 10**8) / 1e9, request_id, tenant_id=self.rng.choice("ab"),
            reserved_tokens=self.rng.randrange(0, 500), decision=self.rng.choice(("allow", "downgrade", "deny")),
            estimated_cost_usd=0.01 * self._number,
        )  # fmt: skip
        self._append(self.decisions, encode(line))

    def _bill(self) -> None:
        rng = self.rng
        request_id: str | None = "u" + str(rng.random())
        if self._waiting and rng.random() < 0.8:
            request_id = self._waiting.pop(rng.randrange(len(self._waiting)))
        elif rng.random() < 0.3:
            request_id = None
        late = rng.randrange(0, DISORDER_SECONDS) if rng.random() < 0.3 else 0
        nano = rng.randrange(0, 10**8)
        known = rng.random() < 0.9
        line = original_line(
            self.seconds - late, nano / 1e9 if known else None, request_id or "", tenant_id=rng.choice("ab"),
            feature_id="chat", model_tier=rng.choice(("expensive", "cheap")), tokens_out=rng.randrange(500),
        )  # fmt: skip
        if request_id is None:
            del line["request_id"]
        if known:
            self.bills.append((parse_micros(line["timestamp"]), nano))
        self._append(self.telemetry, encode(line))
        if request_id is not None and rng.random() < 0.1:
            self._append(self.telemetry, encode(line))  # the same line twice

    def _rotate(self, log: Path) -> None:
        if not log.exists():
            return
        self.rotations += 1
        sibling = log.with_name(f"{log.name}.{self.rotations}")
        if self.rng.random() < 0.3:
            shutil.copyfile(log, sibling)
            os.truncate(log, 0)
        else:
            log.rename(sibling)
        if self.rng.random() < 0.5:
            with gzip.open(f"{sibling}.gz", "wb") as packed:
                packed.write(sibling.read_bytes())
            sibling.unlink()


def spent(ledger: Ledger, now_us: int) -> int:
    return ledger.books("default")[0].meters[0].meter(("default",), now_us).read(now_us).spent


def spent_by_hand(bills: list[tuple[int, int]], now_us: int) -> int:
    """Bills whose second has not left the hour: the bucket of a rolling hour is a second."""
    return sum(nano for at_us, nano in bills if at_us // MICROS >= (now_us - 3600 * MICROS) // MICROS)


def write_bills(path: Path, first_second: int, count: int) -> None:
    with path.open("ab") as log:
        for number in range(count):
            at = first_second + number
            log.write(encode(original_line(at, 0.001, f"bill-{at}")) + b"\n")
