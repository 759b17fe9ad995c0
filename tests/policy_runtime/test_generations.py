"""Rotated generations of a log: which are read and from where, by a start and by a gate that is running."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmscope.event_log import LogTail, fingerprint_of
from llmscope.timestamps import parse_micros, to_micros
from policy_runtime import generations
from policy_runtime.generations import first_offset_since
from policy_runtime.history import LogFollower
from policy_runtime.ledger import Ledger
from tests.policy_runtime.log_lines import START, encode, original_line, stamp
from tests.policy_runtime.traffic import (
    BAD_LINES,
    DISORDER_SECONDS,
    SLOW,
    Traffic,
    spent,
    write_bills,
)


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


@pytest.mark.parametrize("written", [0, 0.5])
def test_a_file_that_is_compressed_while_it_is_looked_for_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: float
) -> None:
    """The compressed one is opened when nothing or half of it is written, the plain one is gone when it is
    its turn."""
    traffic = Traffic(tmp_path, random.Random(1))
    log, plain, packed = traffic.telemetry, tmp_path / "t.jsonl.2", tmp_path / "t.jsonl.2.gz"
    write_bills(log, 0, 1)
    running = traffic.state()
    running.current()
    log.rename(tmp_path / "t.jsonl.1")
    write_bills(log, 10, 30)
    log.rename(plain)
    write_bills(log, 50, 1)
    whole = gzip.compress(plain.read_bytes())
    half = int(len(whole) * written)
    packed.write_bytes(whole[:half])
    os.utime(packed, (time.time() + 1,) * 2)  # the later one comes first
    generation = generations.Generation

    def opened(path: Path) -> generations.Generation:
        found = generation(path)
        if path == packed and plain.exists():
            with packed.open("ab") as rest:
                rest.write(whole[half:])
            plain.unlink()
        return found

    monkeypatch.setattr(generations, "Generation", opened)
    ledger, now_us, _ = running.current()
    assert not plain.exists()
    assert spent(ledger, now_us) == 32_000_000


def test_a_file_that_was_empty_when_it_was_opened_hides_none_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half written when it is opened and whole when it is read: nothing is known of how it begins, so no other
    file may be taken for it."""
    traffic = Traffic(tmp_path, random.Random(1))
    log, packed = traffic.telemetry, tmp_path / "t.jsonl.2.gz"
    write_bills(log, 0, 1)
    running = traffic.state()
    running.current()
    log.rename(tmp_path / "t.jsonl.1")
    write_bills(log, 10, 30)
    whole = gzip.compress(log.read_bytes())
    log.unlink()
    packed.write_bytes(whole[: len(whole) // 2])
    write_bills(log, 50, 1)
    generation = generations.Generation

    def opened(path: Path) -> generations.Generation:
        found = generation(path)
        if path == packed:
            packed.write_bytes(whole)
        return found

    monkeypatch.setattr(generations, "Generation", opened)
    monkeypatch.setattr(generation, "has_grown", lambda self: False)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 32_000_000
    log.rename(tmp_path / "t.jsonl.3")
    write_bills(log, 60, 5)
    log.rename(tmp_path / "t.jsonl.4")
    write_bills(log, 70, 1)
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 38_000_000


@pytest.mark.parametrize("follows", [True, False])
def test_a_writer_that_was_overtaken_by_rotation_is_read_where_the_file_was_never_seen_at_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, follows: bool
) -> None:
    """Its line comes after the file was read as a rotated one; the twin does not look at that again."""
    if not follows:
        monkeypatch.setattr(LogTail, "follow_for_a_while", lambda self, descriptor, offset: None)
    traffic = Traffic(tmp_path, random.Random(1))
    log = traffic.telemetry
    write_bills(log, 0, 1)
    running = traffic.state()
    running.current()
    log.rename(tmp_path / "t.jsonl.1")
    write_bills(log, 10, 2)
    log.rename(tmp_path / "t.jsonl.2")
    write_bills(log, 20, 1)
    assert spent(*running.current()[:2]) == 4_000_000
    late = (tmp_path / "t.jsonl.2").open("ab")
    (tmp_path / "t.jsonl.2").unlink()  # as packing it does
    late.write(encode(original_line(30, 0.001, "late")) + b"\n")
    late.close()
    assert spent(*running.current()[:2]) == (5_000_000 if follows else 4_000_000)


def test_the_position_of_a_decision_tells_of_generations_that_came_and_went(tmp_path: Path) -> None:
    """By what a decision says that it had read it is judged afterwards: with a bill more than it admits to it
    looks as if it had passed its limit."""
    traffic = Traffic(tmp_path, random.Random(1))
    log = traffic.telemetry
    write_bills(log, 0, 1)
    running = traffic.state()
    running.current()
    log.rename(tmp_path / "t.jsonl.1")
    running.current()
    for number in (2, 3):
        write_bills(log, 10 * number, number)
        log.rename(tmp_path / f"t.jsonl.{number}")
    ledger, now_us, _ = running.current()
    assert spent(ledger, now_us) == 6_000_000
    position, last = running.telemetry_position(), tmp_path / "t.jsonl.3"
    assert position is not None
    assert position.offset == last.stat().st_size
    assert position.fingerprint == str(fingerprint_of(last.read_bytes()))


def test_twin_without_it_the_position_is_one_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogTail, "note_read", lambda self, head, offset: None)
    with pytest.raises(AssertionError):
        test_the_position_of_a_decision_tells_of_generations_that_came_and_went(tmp_path)


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
