"""A gate that starts from the files reads the same as one that has been running all along.

Random logs with lines up to 15 minutes out of order, bad lines, rotated, compressed, copied and
truncated meanwhile. Sums are checked against a plain addition over the lines, not against the fold.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from llmscope.clock import VirtualClock
from llmscope.event_log import _read
from llmscope.timestamps import MICROS, parse_micros, to_micros
from policy_runtime import generations
from policy_runtime.generations import first_offset_since
from policy_runtime.history import LogFollower
from policy_runtime.ledger import Admitted, Ledger
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


@pytest.mark.usefixtures("small_probes")
@settings(
    max_examples=150 if SLOW else 12,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**9), looks=st.floats(0.01, 0.9), rotates=st.booleans())
@example(seed=771, looks=0.7819669963517243, rotates=True)
def test_a_start_from_the_files_equals_having_run_all_along(
    tmp_path_factory: pytest.TempPathFactory, seed: int, looks: float, rotates: bool
) -> None:
    traffic = Traffic(tmp_path_factory.mktemp("logs"), random.Random(seed), rotates)
    running = traffic.state()
    running.current()
    for _ in range(500):
        traffic.step()
        if traffic.rng.random() < looks:
            running.current()
    started = traffic.state()
    ledger, now_us, _ = running.current()
    fresh, _, _ = started.current()
    assert readings(ledger, now_us) == readings(fresh, now_us)
    assert spent(fresh, now_us) == spent_by_hand(traffic.bills, now_us)
    running.forget()
    started.forget()


@settings(
    max_examples=80 if SLOW else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**9))
def test_wherever_the_bytes_are_cut_the_state_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Looks that see half a line, and chunks that end anywhere, against one look at everything."""
    assert not cut_bytes_differ(tmp_path_factory.mktemp("cut"), seed)


def cut_bytes_differ(folder: Path, seed: int) -> bool:
    rng = random.Random(seed)
    source = Traffic(folder / "source", rng, rotates=False)
    source.folder.mkdir()
    written: list[tuple[Path, bytes]] = []
    source._append = lambda path, line: written.append((path, line + b"\n"))  # type: ignore[method-assign]
    for _ in range(300):
        source.step()
    copy = Traffic(folder, rng, clock=source.clock)
    looking = copy.state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_read, "CHUNK_BYTES", rng.choice((4000, 9000)))
        for path, line in written:
            at = 0
            while at < len(line):
                end = min(len(line), at + rng.choice((1, 40, 300, 5000)))
                with (folder / path.name).open("ab") as log:
                    log.write(line[at:end])
                at = end
                if rng.random() < 0.1:
                    looking.current()
        ledger, now_us, _ = looking.current()
    at_once, _, _ = copy.state().current()
    return readings(ledger, now_us) != readings(at_once, now_us)


def test_twin_a_reader_that_takes_half_a_line_for_a_line_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = LogFollower._fold

    def first_half_only(self: LogFollower, ledger: Ledger, data: bytes, offset: int, head: bytes) -> None:
        whole = data.rfind(b"\n", 0, -1) + 1  # the last line of every chunk is lost
        fold(self, ledger, data[:whole], offset, head)

    monkeypatch.setattr(LogFollower, "_fold", first_half_only)
    (tmp_path / "cut").mkdir()
    assert cut_bytes_differ(tmp_path / "cut", 1)


def differs(folder: Path, seed: int, looks: float) -> bool:
    """Whether a gate that looks with the probability `looks` comes to other readings than a fresh one."""
    traffic = Traffic(folder, random.Random(seed))
    folder.mkdir()
    running = traffic.state()
    running.current()
    for _ in range(500):
        traffic.step()
        if traffic.rng.random() < looks:
            running.current()
    ledger, now_us, _ = running.current()
    fresh, _, _ = traffic.state().current()
    return readings(ledger, now_us) != readings(fresh, now_us)


@pytest.mark.usefixtures("small_probes")
def test_twin_a_request_that_is_counted_by_what_a_gate_remembers_depends_on_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not differs(tmp_path / "right", 771, 0.7819669963517243)
    release = Ledger._release

    def governed_if_remembered(self: Ledger, request_id: str) -> Admitted | None:
        admitted = release(self, request_id)
        return None if admitted is None else msgspec.structs.replace(admitted, timestamp_us=1 << 62)

    monkeypatch.setattr(Ledger, "_release", governed_if_remembered)
    monkeypatch.setattr(Ledger, "_forgotten_at", lambda self, held: held.expires_us + self.longest_us)
    assert differs(tmp_path / "twin", 771, 0.7819669963517243)


@pytest.mark.usefixtures("small_probes")
def test_twin_generations_folded_after_their_successors_lose_extensions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 18 looks so seldom that a decision and its extension come in one look, from two files."""
    assert not differs(tmp_path / "right", 18, 0.02)

    def successors_first(self: LogFollower, ledger: Ledger) -> bool:
        for chunk in self.tail.poll():
            self._fold(ledger, chunk.data, chunk.offset, self.tail.head_of(chunk.source))
        if self.tail.left:
            self._fold_missed(ledger)
        return False

    monkeypatch.setattr(LogFollower, "fold_new", successors_first)
    assert any(differs(tmp_path / str(seed), seed, 0.02) for seed in range(18, 60))


def test_a_bill_is_never_folded_before_its_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process decides and settles while this one is between its two logs."""
    traffic = Traffic(tmp_path, random.Random(1))
    state = traffic.state()
    state.current()
    traffic.clock.advance(100)
    write_between_the_logs(state, traffic, monkeypatch)
    ledger, _, _ = state.current()
    assert requests_at(ledger, parse_micros(stamp(0))) == 1
    # Dated 50 s apart, and the minute of the bill is not yet over.
    assert requests_at(ledger, parse_micros(stamp(100))) == 0


def test_twin_with_decisions_read_before_telemetry_the_bill_stands_for_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    state = traffic.state()
    state.current()
    traffic.clock.advance(100)
    write_between_the_logs(state, traffic, monkeypatch)

    def decisions_first(self: LiveState, ledger: Ledger) -> None:
        for follower in (self._decisions, *self._telemetry):
            assert follower is not None
            follower._after = None if follower is self._decisions else LogFollower(tmp_path / "none")
            follower.fold_new(ledger)

    monkeypatch.setattr(LiveState, "_fold_new", decisions_first)
    ledger, _, _ = state.current()
    assert requests_at(ledger, parse_micros(stamp(100))) == 1


def write_between_the_logs(state: LiveState, traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision at second 1 and its bill at second 50, written when telemetry is about to be read."""
    tail = state._telemetry[0].tail
    poll = tail.poll

    def written_meanwhile() -> Any:
        monkeypatch.setattr(tail, "poll", poll)
        traffic._append(traffic.decisions, encode(decision_line(1, 0.001, "r1", tenant_id="a")))
        traffic._append(traffic.telemetry, encode(original_line(50, 0.001, "r1", tenant_id="a")))
        return poll()

    monkeypatch.setattr(tail, "poll", written_meanwhile)


def requests_at(ledger: Ledger, now_us: int) -> int:
    return ledger.books("default")[3].meters[0].meter(("default", "a"), now_us).read(now_us).spent


def spent(ledger: Ledger, now_us: int) -> int:
    return ledger.books("default")[0].meters[0].meter(("default",), now_us).read(now_us).spent


def spent_by_hand(bills: list[tuple[int, int]], now_us: int) -> int:
    """Bills whose second has not left the hour: the bucket of a rolling hour is a second."""
    return sum(nano for at_us, nano in bills if at_us // MICROS >= (now_us - 3600 * MICROS) // MICROS)


def test_twin_without_looking_for_missed_generations_the_running_gate_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogFollower, "_fold_missed", lambda self, ledger: self.tail.left.clear() or 0)
    traffic = Traffic(tmp_path, random.Random(1))
    running = traffic.state()
    running.current()
    write_bills(traffic.telemetry, 0, 3)
    for number in (1, 2):  # two rotations between two looks: the second generation was never seen at the path
        traffic.telemetry.rename(tmp_path / f"t.jsonl.{number}")
        write_bills(traffic.telemetry, 10 * number, 3)
    ledger, now_us, _ = running.current()
    fresh, _, _ = traffic.state().current()
    assert spent(ledger, now_us) < spent(fresh, now_us) == 9_000_000


def write_bills(path: Path, first_second: int, count: int) -> None:
    with path.open("ab") as log:
        for number in range(count):
            at = first_second + number
            log.write(encode(original_line(at, 0.001, f"bill-{at}")) + b"\n")


@pytest.mark.parametrize("how", ["rename twice", "copy-truncate", "copy-truncate, regrown", "compressed"])
def test_a_running_gate_finds_what_was_rotated_away_between_two_looks(tmp_path: Path, how: str) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    log = traffic.telemetry
    write_bills(log, 0, 2)
    running = traffic.state()
    running.current()
    write_bills(log, 10, 2)  # not looked at before the rotation
    if how.startswith("copy"):
        shutil.copyfile(log, tmp_path / "t.jsonl.1")
        os.truncate(log, 0)
    else:
        log.rename(tmp_path / "t.jsonl.1")
    write_bills(log, 20, 9 if how.endswith("regrown") else 1)
    if how in ("rename twice", "compressed"):
        log.rename(tmp_path / "t.jsonl.2")
        write_bills(log, 30, 1)
    if how == "compressed":
        with gzip.open(tmp_path / "t.jsonl.2.gz", "wb") as packed:
            packed.write((tmp_path / "t.jsonl.2").read_bytes())
        (tmp_path / "t.jsonl.2").unlink()
    ledger, now_us, _ = running.current()
    bills = {"rename twice": 6, "compressed": 6, "copy-truncate": 5, "copy-truncate, regrown": 13}[how]
    assert spent(ledger, now_us) == bills * 1_000_000


def test_a_line_written_by_whom_the_rotation_overtook_is_still_read(tmp_path: Path) -> None:
    """A writer looks at the path, is held up, and writes after others have begun the next file."""
    traffic = Traffic(tmp_path, random.Random(1))
    log, old = traffic.telemetry, tmp_path / "t.jsonl.1"
    write_bills(log, 0, 1)
    running = traffic.state()
    running.current()
    log.rename(old)
    write_bills(log, 10, 1)
    running.current()
    write_bills(old, 20, 1)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 3_000_000


def test_lines_without_an_id_at_the_same_place_of_two_generations_are_two_requests(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    for name, second in (("t.jsonl.1", 0), ("t.jsonl", 10)):
        line = original_line(second, 0.001)
        del line["request_id"]
        (tmp_path / name).write_bytes(encode(line) + b"\n")
    ledger, now_us, _ = traffic.state().current()
    assert spent(ledger, now_us) == 2_000_000


def test_a_half_written_compressed_sibling_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """What compressing looks like in the middle: the plain file beside part of the compressed one."""
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(tmp_path / "t.jsonl.1", 0, 500)
    packed = gzip.compress((tmp_path / "t.jsonl.1").read_bytes())
    (tmp_path / "t.jsonl.1.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "t.jsonl.2.gz").write_bytes(b"\x1f\x8bgarbage")
    write_bills(traffic.telemetry, 600, 1)
    traffic.clock.advance(601)
    ledger, now_us, degraded = traffic.state().current()
    assert (spent(ledger, now_us), degraded) == (501_000_000, None)


def test_compressed_generations_before_the_window_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    day = timedelta(days=1)
    for number in range(1, 9):  # 1 is the latest, a day older each
        lines = [encode(original_line(-number * day.total_seconds(), 0.001, f"r{number}"))] * 50
        (tmp_path / f"t.jsonl.{number}.gz").write_bytes(gzip.compress(b"\n".join(lines) + b"\n"))
    read: list[str] = []
    pieces = generations.Generation.pieces
    monkeypatch.setattr(
        generations.Generation, "pieces",
        lambda self, since_us, begin=0: (read.append(self.path.name), pieces(self, since_us, begin))[1],
    )  # fmt: skip
    traffic.state().current()
    assert read == ["t.jsonl.1.gz"]


# -- bisection ---------------------------------------------------------------------------------------------


def disordered_log(rng: random.Random, path: Path, count: int) -> list[tuple[int, int]]:
    """A log with disorder and bad lines; (offset, instant) of every datable line."""
    placed = []
    seconds = 0.0
    with path.open("wb") as log:
        for _ in range(count):
            seconds += rng.expovariate(1 / 30)
            if rng.random() < 0.05:
                log.write(rng.choice(BAD_LINES) + b"\n")
                continue
            at = seconds - (rng.uniform(0, DISORDER_SECONDS) if rng.random() < 0.4 else 0)
            placed.append((log.tell(), parse_micros(stamp(at))))
            filler = "x" * rng.choice((0, 10, 200, 2000))
            log.write(json.dumps({"filler": filler, "timestamp": stamp(at)}).encode() + b"\n")
    return placed


def skipped(path: Path, placed: list[tuple[int, int]], since_us: int) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        offset = first_offset_since(fd, path.stat().st_size, since_us)
    finally:
        os.close(fd)
    data = path.read_bytes()
    assert offset == 0 or data[offset - 1 : offset] == b"\n"
    return sum(1 for at, instant in placed if at < offset and instant >= since_us)


@pytest.mark.usefixtures("small_probes")
@settings(
    derandomize=True,
    max_examples=300 if SLOW else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**9), where=st.floats(-0.1, 1.1))
def test_bisection_never_skips_a_line_of_the_window(
    tmp_path_factory: pytest.TempPathFactory, seed: int, where: float
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    placed = disordered_log(random.Random(seed), path, 400)
    since_us = to_micros(START + timedelta(seconds=where * 400 * 30))
    assert skipped(path, placed, since_us) == 0


def test_twin_without_room_for_disorder_bisection_skips_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_probes: None
) -> None:
    monkeypatch.setattr(generations, "DISORDER_US", 0)
    path = tmp_path / "log.jsonl"
    missed = 0
    for seed in range(20):
        placed = disordered_log(random.Random(seed), path, 400)
        missed += skipped(path, placed, parse_micros(stamp(6000)))
    assert missed > 0


def test_bisection_reads_little_of_a_large_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    with path.open("wb") as log:
        for second in range(60_000):
            log.write(b'{"timestamp":"%s","filler":"%s"}\n' % (stamp(second).encode(), b"x" * 200))
    since_us = parse_micros(stamp(57_000))
    read = 0
    pread = os.pread

    def counting(fd: int, length: int, offset: int) -> bytes:
        nonlocal read
        read += length
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", counting)
    fd = os.open(path, os.O_RDONLY)
    offset = first_offset_since(fd, path.stat().st_size, since_us)
    os.close(fd)
    assert read < 0.1 * path.stat().st_size
    assert 0.90 < offset / path.stat().st_size < 0.95


def test_a_few_lines_dated_long_ago_do_not_hide_a_window(tmp_path: Path) -> None:
    """A program with a broken clock must not make a starting gate skip everybody else's spending."""
    path = tmp_path / "log.jsonl"
    placed = []
    with path.open("wb") as log:
        for second in range(20_000):
            at = second if second % 50 else second - 10**7
            if second % 50:
                placed.append((log.tell(), parse_micros(stamp(at))))
            log.write(b'{"timestamp":"%s"}\n' % stamp(at).encode())
    assert skipped(path, placed, parse_micros(stamp(5000))) == 0


@pytest.mark.usefixtures("small_probes")
def test_a_long_reservation_that_was_settled_before_the_window_is_not_open_again(tmp_path: Path) -> None:
    """Reservations of a day under a budget of an hour: the bill is as old as the decision."""
    policy = {**POLICY.model_dump(), "reservation_ttl_seconds": 86400.0}
    traffic = Traffic(tmp_path, random.Random(1))
    with traffic.decisions.open("wb") as decisions, traffic.telemetry.open("wb") as telemetry:
        for number in range(300):
            at = number * 200
            expires = stamp(at + 86400)
            line = decision_line(at, 0.001, f"r{number}", reservation_expires_at=expires)
            decisions.write(encode(line) + b"\n")
            telemetry.write(encode(original_line(at + 1, 0.001, f"r{number}")) + b"\n")
    traffic.clock.advance(60_000)
    state = LiveState((traffic.telemetry,), traffic.decisions, traffic.clock, Policy.model_validate(policy))
    ledger, _, _ = state.current()
    assert list(ledger.open_reservations()) == []


def test_a_generation_copied_and_truncated_before_an_empty_file_was_looked_at_again(tmp_path: Path) -> None:
    """Empty at both looks: only the time of its last change shows that there was something."""
    traffic = Traffic(tmp_path, random.Random(1))
    log = traffic.telemetry
    log.touch()
    os.utime(log, (1, 1))
    running = traffic.state()
    running.current()
    write_bills(log, 0, 3)
    shutil.copyfile(log, tmp_path / "t.jsonl.1")
    os.truncate(log, 0)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 3_000_000


@pytest.mark.parametrize("settled", [False, True], ids=["just now", "a while ago"])
def test_generations_that_came_and_went_while_the_log_was_missing(tmp_path: Path, settled: bool) -> None:
    """Renamed away, and nothing written since: what was written and renamed between two looks counts."""
    traffic = Traffic(tmp_path, random.Random(1))
    log = traffic.telemetry
    write_bills(log, 0, 1)
    running = traffic.state()
    running.current()
    for number in (1, 2):
        log.rename(tmp_path / f"t.jsonl.{number}")
        if settled:
            os.utime(tmp_path, (number, number))
        if number == 1:
            running.current()
            write_bills(log, 10, 2)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 3_000_000


def test_a_log_filled_and_truncated_and_filled_again_since_it_was_empty(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    log = traffic.telemetry
    log.touch()
    running = traffic.state()
    running.current()
    write_bills(log, 0, 3)
    shutil.copyfile(log, tmp_path / "t.jsonl.1")
    os.truncate(log, 0)
    write_bills(log, 10, 5)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 8_000_000


def test_what_is_copied_and_truncated_while_a_start_reads_older_generations_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    log = traffic.telemetry
    write_bills(tmp_path / "t.jsonl.1", 0, 3)
    write_bills(log, 10, 4)
    fold = LogFollower._fold_generation

    def truncated_meanwhile(self: LogFollower, ledger: Ledger, *args: Any) -> int:
        if not (tmp_path / "t.jsonl.2").exists():
            shutil.copyfile(log, tmp_path / "t.jsonl.2")
            os.truncate(log, 0)
        return fold(self, ledger, *args)

    monkeypatch.setattr(LogFollower, "_fold_generation", truncated_meanwhile)
    ledger, now_us, _ = traffic.state().current()
    assert spent(ledger, now_us) == 7_000_000


def test_generations_that_came_and_went_before_there_was_a_file_at_the_first_look(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    running = traffic.state()
    running.current()
    write_bills(traffic.telemetry, 0, 3)
    traffic.telemetry.rename(tmp_path / "t.jsonl.1")
    write_bills(traffic.telemetry, 10, 1)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 4_000_000
