"""A gate that starts from the files reads the same as one that has been running all along.

Random logs with lines up to 15 minutes out of order, bad lines, rotated, compressed, copied and
truncated meanwhile. Sums are checked against a plain addition over the lines, not against the fold.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from llmscope.event_log import _read
from llmscope.timestamps import parse_micros
from policy_runtime.history import LogFollower
from policy_runtime.ledger import Admitted, Ledger
from policy_runtime.live_state import LiveState
from policy_runtime.policy import Policy
from tests.policy_runtime.log_lines import decision_line, encode, original_line, stamp
from tests.policy_runtime.traffic import (
    POLICY,
    SLOW,
    Traffic,
    readings,
    spent,
    spent_by_hand,
    write_bills,
)


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


def test_a_start_reads_the_decisions_once_for_all_bills_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every bill in the file follows its decision: only what is written during the start needs another look."""
    monkeypatch.setattr(_read, "READ_BYTES", 2000)
    looks: list[Path] = []
    fold_new = LogFollower.fold_new

    def counted(self: LogFollower, ledger: Ledger) -> bool:
        looks.append(self.path)
        return fold_new(self, ledger)

    monkeypatch.setattr(LogFollower, "fold_new", counted)
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 90)
    running = traffic.state()
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 90_000_000
    assert looks.count(traffic.decisions) <= 3
    del looks[:]
    write_bills(traffic.telemetry, 100, 90)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 180_000_000
    assert looks.count(traffic.decisions) > 20
