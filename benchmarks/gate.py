"""What the gate costs: a decision, a decision with history, eight processes, a cold start, the import."""

from __future__ import annotations

import fcntl
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.figures import Figure, benchmark, p50_us, seconds
from llmscope import LLMRequestContext
from llmscope.telemetry_line import Usage
from policy_runtime import Policy, PolicyRuntime
from policy_runtime.checkpoint import checkpoint_path
from policy_runtime.ledger import Ledger

WARM_UP = 300
BATCH = 100
PROMPT = "Summarise the following paragraph for a busy reader, please. " * 17  # 1,037 characters
POLICY: dict[str, Any] = {
    "namespaces": {
        "default": {
            "rules": [
                {"id": "hour", "primitive": "budget_threshold", "period": "hourly", "limit_usd": 1e6, "action": "deny"},
                {"id": "day", "primitive": "budget_threshold", "period": "daily", "limit_usd": 1e6, "action": "downgrade"},
                {"id": "tenant", "primitive": "budget_threshold", "period": "daily", "limit_usd": 1e6, "action": "deny",
                 "per": ["tenant_id"]},
                {"id": "route", "primitive": "route_preference", "route_name": "/elsewhere", "prefer_tier": "cheap"},
                {"id": "odd", "primitive": "cost_anomaly", "feature_id": "chat", "threshold_multiplier": 3.0},
            ]
        }
    }
}  # fmt: skip
MONTH = {
    "namespaces": {
        "default": {
            "rules": [
                *POLICY["namespaces"]["default"]["rules"],
                {"id": "month", "primitive": "budget_threshold", "period": "monthly", "window": "rolling",
                 "limit_usd": 1e6, "action": "deny", "per": ["tenant_id"]},
            ]
        }
    }
}  # fmt: skip
CONTEXT = LLMRequestContext(tenant_id="acme", feature_id="chat")
ASK: dict[str, Any] = {
    "context": CONTEXT,
    "route_name": "/answer-routed",
    "model_tier": "expensive",
    "prompt": PROMPT,
}


def gate_in(folder: Path) -> PolicyRuntime:
    """A gate on fresh or prepared logs in `folder`."""
    return PolicyRuntime(POLICY, telemetry_path=folder / "t.jsonl", decisions_path=folder / "d.jsonl")


def decide_once(gate: PolicyRuntime) -> str:
    """One admitted decision, not settled."""
    with gate.admit(**ASK) as admission:
        return admission.request_id


def decision_p50_us(folder: Path, *, rounds: int) -> float:
    """Median decision in a busy loop; what was admitted is settled apart, a hundred at a time, so that
    nothing piles up."""
    gate = gate_in(folder)
    durations: list[int] = []
    while len(durations) < rounds + WARM_UP:
        admitted = []
        for _ in range(BATCH):
            started = time.perf_counter_ns()
            with gate.admit(**ASK) as admission:
                durations.append(time.perf_counter_ns() - started)
            admitted.append(admission)
        for admission in admitted:
            admission.settle(tokens_in=250, tokens_out=100)
    gate.close()
    return statistics.median(durations[WARM_UP:]) / 1000


def in_turn_p50_us(folder: Path, least: Callable[[], None], *, rounds: int) -> tuple[float, float]:
    """Median decision and median floor when decisions, settlements and floors take turns, so that each finds
    the caches as the others left them."""
    gate = gate_in(folder)
    decisions, floors = [], []
    for _ in range(rounds + WARM_UP):
        started = time.perf_counter_ns()
        with gate.admit(**ASK) as admission:
            decisions.append(time.perf_counter_ns() - started)
            admission.settle(tokens_in=250, tokens_out=100)
        started = time.perf_counter_ns()
        least()
        floors.append(time.perf_counter_ns() - started)
    gate.close()
    return statistics.median(decisions[WARM_UP:]) / 1000, statistics.median(floors[WARM_UP:]) / 1000


@contextmanager
def least_decision(folder: Path, line: bytes) -> Iterator[Callable[[], None]]:
    """What nobody can do without: an id, the clock, encoding, lock, write, unlock of the same bytes."""
    record = msgspec.json.decode(line)
    encoder = msgspec.json.Encoder()
    log = os.open(folder / "floor.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    lock = os.open(folder / "floor.lock", os.O_RDWR | os.O_CREAT)

    def decide() -> None:
        record["request_id"] = str(uuid.uuid4())
        record["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds")
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(log, encoder.encode(record) + b"\n")
        fcntl.flock(lock, fcntl.LOCK_UN)

    try:
        yield decide
    finally:
        os.close(log)
        os.close(lock)


def last_decision(folder: Path) -> bytes:
    """The last line of a decision log."""
    return (folder / "d.jsonl").read_bytes().splitlines()[-1]


@benchmark("decision_p50")
def decision() -> Iterator[Figure]:
    """One admitted decision under 5 rules with a prompt of 1,000 characters, and the floor, each in a busy
    loop of its own. What they are to each other in a process that does other work between is told beside."""
    with tempfile.TemporaryDirectory() as name:
        alone, mixed = Path(name, "alone"), Path(name, "mixed")
        alone.mkdir()
        mixed.mkdir()
        value = decision_p50_us(alone, rounds=5000)
        with least_decision(alone, last_decision(alone)) as least:
            floor = p50_us(least, rounds=5000)
            decided, least_us = in_turn_p50_us(mixed, least, rounds=5000)
        ratio = decided / least_us
        print(
            f"# taking turns: {decided:.1f} us, floor {least_us:.1f} us, ratio {ratio:.2f}", file=sys.stderr
        )
        yield Figure("decision_p50", value, "us", floor, 4.0)


def write_history(folder: Path, lines: int, span: timedelta, kinds: int = 1) -> None:
    """Settled requests evenly over the `span` before now, of so many tenants and features taking turns."""
    now = datetime.now(UTC)
    template: dict[str, Any] = {
        "schema_version": "0.1.0", "request_id": "", "tenant_id": "acme", "route": "/answer-routed",
        "provider_selected": "openai", "model_selected": "gpt-4o", "model_tier": "expensive", "tokens_in": 250,
        "tokens_out": 100, "tokens_total": 350, "estimated_cost_usd": 0.001625, "cost_source": "estimated_local_snapshot",
        "latency_ms": 812.345, "status": "success", "cache_hit": False, "eval_hooks": [],
        "audit_tags": {"feature_id": "chat"}, "timestamp": "", "provider": "openai", "model": "gpt-4o",
        "schema_valid": True, "selected_model": "gpt-4o",
    }  # fmt: skip
    encode = msgspec.json.Encoder().encode
    with (folder / "t.jsonl").open("wb") as log:
        for number in range(lines):
            template["request_id"] = f"{number:032x}"
            at = now - span * (1 - number / lines)
            template["timestamp"] = at.isoformat(timespec="microseconds")
            if kinds > 1:
                template["tenant_id"] = f"tenant-{number * 7919 % kinds % 20}"
                template["audit_tags"] = {"feature_id": f"feature-{number * 7919 % kinds}"}
            log.write(encode(template) + b"\n")


@benchmark("decision_history")
def decision_history() -> Iterator[Figure]:
    """The same with a million lines of history within the windows."""
    with tempfile.TemporaryDirectory() as name:
        empty, full = Path(name, "empty"), Path(name, "full")
        empty.mkdir()
        full.mkdir()
        write_history(full, 1_000_000, timedelta(days=2))
        floor = decision_p50_us(empty, rounds=5000)
        yield Figure("decision_history", decision_p50_us(full, rounds=5000), "us", floor, 1.2)


_SATURATE = """
import sys, time
from pathlib import Path
from benchmarks.gate import decide_once, gate_in
folder, number, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
gate = gate_in(folder)
decide_once(gate)
(folder / f"ready-{number}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
done, until = 0, time.monotonic() + seconds
while time.monotonic() < until:
    decide_once(gate)
    done += 1
print(done / seconds)
"""


def decisions_per_second(processes: int, span_seconds: float = 3.0) -> float:
    """How many decisions `processes` make together while all are saturating."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", _SATURATE, name, str(number), str(span_seconds)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]
        while len(list(folder.glob("ready-*"))) < processes:
            time.sleep(0.01)
        (folder / "go").touch()
        return sum(float(worker.communicate()[0]) for worker in workers)


@benchmark("decision_8_processes")
def decision_8_processes() -> Iterator[Figure]:
    """Decisions by 8 saturating processes against one, in turn, the best of three each: what the machine's
    other work did not disturb."""
    rates = [(decisions_per_second(1, 1.5), decisions_per_second(8, 1.5)) for _ in range(3)]
    alone, together = (max(of) for of in zip(*rates, strict=True))
    yield Figure("decision_8_processes", together, "1/s", alone, 0.33, at_least=True)


def start(folder: Path, policy: dict[str, Any]) -> float:
    """Seconds until a gate has judged its first request."""
    begun = time.perf_counter()
    gate = PolicyRuntime(policy, telemetry_path=folder / "t.jsonl", decisions_path=folder / "d.jsonl")
    gate.evaluate(**ASK)
    ready = time.perf_counter() - begun
    gate.close()
    return ready


def start_without(folder: Path, policy: dict[str, Any]) -> float:
    """`start` without a checkpoint; it leaves one behind."""
    checkpoint = checkpoint_path(folder / "d.jsonl")
    checkpoint.unlink(missing_ok=True)
    ready = start(folder, policy)
    while not checkpoint.exists():
        time.sleep(0.01)
    return ready


@benchmark("cold_start")
def cold_start() -> Iterator[Figure]:
    """Ready on a 1 GB telemetry log whose last 5 % lie in the window, without a checkpoint and with one,
    against DuckDB's count(*); then with all of it in a window of 30 days, with one against without."""
    import duckdb

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = 1_750_000
        write_history(folder, lines, timedelta(hours=24 * 20))
        size = (folder / "t.jsonl").stat().st_size
        print(f"# {size / 1e9:.2f} GB, {lines} lines", file=sys.stderr)

        def count() -> None:
            with duckdb.connect() as con:
                con.execute(
                    "SELECT count(*) FROM read_json($path, format='newline_delimited', columns={'request_id': 'VARCHAR'})",
                    {"path": str(folder / "t.jsonl")},
                ).fetchall()

        value, floor = min(start_without(folder, POLICY) for _ in range(5)), seconds(count, rounds=5)
        yield Figure("cold_start", value, "s", floor, 0.5)
        mixed = folder / "mixed"
        mixed.mkdir()
        write_history(mixed, lines // 20, timedelta(hours=24), kinds=200)
        ready = min(start_without(mixed, POLICY) for _ in range(3))
        print(
            f"# a window of as many lines of 200 kinds: {ready:.2f} s, ratio {ready / floor:.2f}",
            file=sys.stderr,
        )
        # What a gate meets where one has been running: it left a checkpoint 16 to 32 MiB ago at most.
        yield Figure("cold_start_checkpoint", min(start(folder, POLICY) for _ in range(5)), "s", floor, 0.5)

        without = min(start_without(folder, MONTH) for _ in range(2))
        checkpoint = checkpoint_path(folder / "d.jsonl")
        print(f"# checkpoint of {checkpoint.stat().st_size / 1e6:.1f} MB", file=sys.stderr)
        yield Figure("cold_start_month", min(start(folder, MONTH) for _ in range(5)), "s", without, 0.1)


def import_seconds(statement: str) -> float:
    """How long a fresh interpreter takes for `statement`, beyond starting."""
    code = f"import time; t = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    runs = [float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(7)]
    return min(runs)


@benchmark("import")
def importing() -> Iterator[Figure]:
    """`import policy_runtime` against what it cannot do without."""
    floor = import_seconds("import pydantic, yaml")
    yield Figure("import", import_seconds("import policy_runtime") * 1000, "ms", floor * 1000, 1.5)


def resident_mib() -> float:
    """This process's resident memory, in MiB (Linux and macOS report the peak in different units)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


@benchmark("memory")
def memory() -> Iterator[Figure]:
    """Peak memory after 10 M events over 100,000 scopes, against after the first 4 M (when every bound is
    reached: 1.25 million ids, an hour of buckets, all scopes)."""
    policy = Policy.model_validate(
        {"namespaces": {"default": {"rules": [
            {"id": "caller", "primitive": "budget_threshold", "period": "hourly", "limit_usd": 1e9, "action": "deny",
             "per": ["caller_id"]}]}}}
    )  # fmt: skip
    ledger = Ledger(policy)
    start_us = 1_774_346_400_000_000
    template = Usage(
        "", start_us, "acme", "", None, "chat", None, None, "/answer-routed", "openai", "gpt-4o", "expensive",
        250, 100, 1_625_000, 812.0, "success", True, "stop", False,
    )  # fmt: skip
    replace = msgspec.structs.replace
    early = 0.0
    events = 10_000_000
    for number in range(events):
        at_us = start_us + number * 3_000  # 333 a second: 1.2 M in the window
        ledger.advance(at_us)
        caller = f"caller-{number % 100_000}"
        ledger.bill(replace(template, request_id=f"{number:032x}", timestamp_us=at_us, caller_id=caller))
        if number == 4_000_000:
            early = resident_mib()
    yield Figure("memory", resident_mib(), "MiB", early, 1.1)
