"""What the two logs prove, worked out from the files alone: never by the code that wrote or folds them."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class Evidence:
    """The whole history of a folder: every generation of both logs, and what the workers were told.

    Attributes:
        torn: lines that do not parse, of both logs.
        decided: decisions by request id, as often as they stand in the log.
        billed: bills likewise.
        told: (what, request id, nano-USD or None) as the workers noted it.
    """

    torn: list[bytes] = field(default_factory=list)
    decided: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    billed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    told: list[tuple[str, str, int | None]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    bills: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    begins: list[tuple[int, bytes]] = field(default_factory=list)

    def lost(self) -> list[tuple[str, str]]:
        """What a worker was told and no log shows."""
        return [
            (what, request_id)
            for what, request_id, nano in self.told
            if request_id not in (self.billed if what == "settled" else self.decided)
            or (
                what == "settled"
                and Decimal(self.billed[request_id][0].get("estimated_cost_usd", -1))
                != Decimal(nano or 0).scaleb(-9)
            )
        ]

    def doubled(self) -> list[str]:
        """Request ids that stand twice in one log."""
        return [
            name for table in (self.decided, self.billed) for name, lines in table.items() if len(lines) > 1
        ]

    def highest_commitment(self, *, by_time: bool = False) -> Decimal:
        """The most that was spent + reserved right after an admission, less what was settled after its
        reservation had expired (which the limit cannot hold).

        A bill counts from the first decision whose telemetry position lies behind it; `by_time`, from
        its own date on: where a copy of the live file was read the position says too little.
        """
        highest = spent = late = Decimal(0)
        seen = until = 0
        reserved: dict[str, tuple[datetime, Decimal]] = {}
        expiries: dict[str, datetime] = {}
        for decision in self.decisions:
            now = datetime.fromisoformat(decision["timestamp"])
            until = 0 if by_time else max(until, self._place(decision))
            while seen < len(self.bills) and (
                self.bills[seen][1]["timestamp"] <= decision["timestamp"]
                if by_time
                else self.bills[seen][0] < until
            ):
                bill = self.bills[seen][1]
                cost = Decimal(bill["estimated_cost_usd"])
                spent += cost
                if reserved.pop(bill["request_id"], None) is None or (
                    datetime.fromisoformat(bill["timestamp"]) >= expiries[bill["request_id"]]
                ):
                    late += cost
                seen += 1
            for request_id in [known for known, (expires, _) in reserved.items() if expires <= now]:
                del reserved[request_id]
            if decision["decision"] != "deny":
                expires = datetime.fromisoformat(decision["reservation_expires_at"])
                expiries[decision["request_id"]] = expires
                reserved[decision["request_id"]] = (expires, Decimal(decision["reserved_cost_usd"]))
                committed = spent + sum(amount for _, amount in reserved.values())
                highest = max(highest, committed - late)
        return highest

    def _place(self, decision: dict[str, Any]) -> int:
        """The telemetry that a decision had seen, as an offset into all generations laid end to end.

        A file that was still empty or missing is told by time: everything before it had been seen.
        """
        position = decision.get("telemetry_position")
        sha, length = ("", "0") if position is None else str(position["fingerprint"]).split(":")
        if length == "0":
            later = (place for place, bill in self.bills if bill["timestamp"] > decision["timestamp"])
            first_later = next(later, 1 << 62)
            return max((begin for begin, _ in self.begins if begin <= first_later), default=0)
        for begin, head in reversed(self.begins):
            if len(head) >= int(length) and hashlib.sha256(head[: int(length)]).hexdigest().startswith(sha):
                return begin + int(position["offset"])
        raise AssertionError(f"no generation is known by {position}")


def collect(folder: Path) -> Evidence:
    """Read everything there is in a folder that `gate_storm` has left."""
    evidence = Evidence()
    for data in generations(folder, "d.jsonl"):
        for line in lines_of(data, evidence):
            if "event" not in line:
                evidence.decisions.append(line)
                evidence.decided.setdefault(line["request_id"], []).append(line)
    begin = 0
    for data in generations(folder, "t.jsonl"):
        evidence.begins.append((begin, data[:1024]))
        offset = begin
        for raw in data.splitlines(keepends=True):
            for line in lines_of(raw, evidence):
                evidence.bills.append((offset, line))
                evidence.billed.setdefault(line["request_id"], []).append(line)
            offset += len(raw)
        begin += len(data)
    for notes in folder.glob("notes-*"):
        for note in notes.read_text().splitlines():
            what, request_id, *nano = note.split()
            evidence.told.append((what, request_id, int(nano[0]) if nano else None))
    return evidence


def generations(folder: Path, name: str) -> list[bytes]:
    """The content of every generation of a log, in the order they were written, destroyed ones included."""
    rotated = sorted(
        [*folder.glob(f"{name}.0*"), *folder.glob(f"destroyed/{name}.0*")], key=lambda path: path.name
    )
    paths = [*rotated, folder / name]
    return [
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in paths
        if path.exists()
    ]


def lines_of(data: bytes, evidence: Evidence) -> list[dict[str, Any]]:
    parsed = []
    for line in data.split(b"\n"):
        if line.strip():
            try:
                parsed.append(json.loads(line, parse_float=Decimal))
            except ValueError:
                evidence.torn.append(line)
    return parsed


def storm(folder: Path, **options: Any) -> dict[str, int]:
    """Run `gate_storm` to its end; what it says it did."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.gate_storm", str(folder), json.dumps(options)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    if options.get("broken", "nothing") == "nothing":
        assert summary["failed"] == 0, done.stderr[-3000:]
    return summary
