"""A start from a checkpoint comes to what a start without one comes to, and to what a gate that has been
running all along reads; what does not fit is passed over and said.
"""

from __future__ import annotations

import gzip
import logging
import os
import random
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from llmscope.clock import VirtualClock
from policy_runtime import live_state
from policy_runtime.generations import FoldedFile
from policy_runtime.ledger import Ledger
from policy_runtime.live_state import LiveState
from policy_runtime.policy import Policy
from tests.policy_runtime.log_lines import START, encode, original_line
from tests.policy_runtime.starting import (
    checkpoint_of,
    start,
    start_without,
    wait_for_checkpoints,
    write_checkpoint,
)
from tests.policy_runtime.traffic import (
    POLICY,
    SLOW,
    Traffic,
    readings,
    spent,
    spent_by_hand,
    write_bills,
)


def history(
    folder: Path, seed: int, looks: float, *, rotates: bool = True
) -> tuple[Traffic, Ledger, int, list[bool]]:
    """Random traffic with checkpoints written now and then, and the gate that ran all along."""
    traffic = Traffic(folder, random.Random(seed), rotates)
    chance = random.Random(seed + 1)
    running = traffic.state()
    running.current()
    written = []
    for _ in range(500):
        traffic.step()
        if traffic.rng.random() < looks:
            running.current()
        if chance.random() < 0.02:
            written.append(write_checkpoint(traffic))
    written.append(write_checkpoint(traffic))
    for _ in range(chance.choice((0, 5, 40, 150))):
        traffic.step()
    ledger, now_us, _ = running.current()
    running.forget()
    return traffic, ledger, now_us, written


@pytest.mark.usefixtures("small_probes")
@settings(
    max_examples=150 if SLOW else 12,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 10**9), looks=st.floats(0.01, 0.9), rotates=st.booleans())
def test_a_start_from_a_checkpoint_equals_one_without_and_having_run_all_along(
    tmp_path_factory: pytest.TempPathFactory, seed: int, looks: float, rotates: bool
) -> None:
    traffic, running, now_us, written = history(tmp_path_factory.mktemp("logs"), seed, looks, rotates=rotates)
    assert any(written)
    with_it, _ = start(traffic)
    without, _ = start_without(traffic)
    assert with_it.folded_bytes < without.folded_bytes
    assert readings(with_it, now_us) == readings(without, now_us) == readings(running, now_us)
    assert spent(with_it, now_us) == spent_by_hand(traffic.bills, now_us)


@pytest.mark.usefixtures("small_probes")
def test_twin_a_checkpoint_with_a_wrong_offset_makes_it_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a log further on than was folded, with the bytes there for its end: nothing else could tell."""
    wrong = FoldedFile.of

    def further(head: bytes, offset: int, end: bytes, latest_us: int) -> FoldedFile:
        return msgspec.structs.replace(
            wrong(head, offset, end, latest_us), offset=offset + 3000, ends_bytes=0, ends_sha256=wrong(b"", 0, b"", 0).ends_sha256
        )  # fmt: skip

    monkeypatch.setattr(FoldedFile, "of", further)
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 20)
    assert write_checkpoint(traffic)
    write_bills(traffic.telemetry, 100, 20)
    with_it, now_us = start(traffic)
    without, _ = start_without(traffic)
    assert spent(with_it, now_us) < spent(without, now_us) == 40_000_000


def test_a_start_from_a_checkpoint_reads_only_what_came_since(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 900)
    traffic.telemetry.rename(tmp_path / "t.jsonl.1")
    write_bills(traffic.telemetry, 1000, 900)
    traffic.clock.advance(2000)
    assert write_checkpoint(traffic)
    size = traffic.telemetry.stat().st_size
    write_bills(traffic.telemetry, 1950, 10)
    with_it, now_us = start(traffic)
    without, _ = start_without(traffic)
    assert with_it.folded_bytes == traffic.telemetry.stat().st_size - size
    assert without.folded_bytes > 100 * with_it.folded_bytes
    assert spent(with_it, now_us) == spent(without, now_us) == 1_810_000_000


@pytest.mark.parametrize("how", ["rename", "rename and compress", "copy-truncate", "twice"])
def test_what_was_folded_is_found_again_wherever_rotation_took_it(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    log, rotated = traffic.telemetry, tmp_path / "t.jsonl.1"
    write_bills(log, 0, 50)
    assert write_checkpoint(traffic)
    write_bills(log, 60, 5)
    if how == "copy-truncate":
        shutil.copyfile(log, rotated)
        os.truncate(log, 0)
    else:
        log.rename(rotated)
    if how == "rename and compress":
        (tmp_path / "t.jsonl.1.gz").write_bytes(gzip.compress(rotated.read_bytes()))
        rotated.unlink()
    write_bills(log, 70, 5)
    if how == "twice":
        log.rename(tmp_path / "t.jsonl.2")
        write_bills(log, 80, 5)
    ledger, now_us = start(traffic)
    bills = 65 if how == "twice" else 60
    assert spent(ledger, now_us) == bills * 1_000_000
    per_line = len(encode(original_line(0, 0.001, "bill-10"))) + 1
    assert ledger.folded_bytes == (bills - 50) * per_line
    assert not caplog.records


def damaged(path: Path, traffic: Traffic) -> None:
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2] ^= 1
    path.write_bytes(stored)


def torn(path: Path, traffic: Traffic) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path, traffic: Traffic) -> None:
    path.write_bytes(b"")


def foreign(path: Path, traffic: Traffic) -> None:
    path.write_bytes(b"\x80\x04\x95 something else\n" * 100)


def older(path: Path, traffic: Traffic) -> None:
    path.write_bytes(path.read_bytes().replace(b"checkpoint 1\n", b"checkpoint 0\n", 1))


def of_another_policy(path: Path, traffic: Traffic) -> None:
    path.unlink()
    other = Policy.model_validate({**POLICY.model_dump(), "reservation_ttl_seconds": 60.0})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 0)
        start(traffic, other)
    assert path.exists()


def of_other_logs(path: Path, traffic: Traffic) -> None:
    elsewhere = Traffic(traffic.folder / "elsewhere", random.Random(2))
    elsewhere.folder.mkdir()
    write_bills(elsewhere.telemetry, 7, 3)
    assert write_checkpoint(elsewhere)
    shutil.copyfile(checkpoint_of(elsewhere), path)


def of_more_logs(path: Path, traffic: Traffic) -> None:
    path.unlink()
    paths = (traffic.telemetry, traffic.folder / "more.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 0)
        LiveState(paths, traffic.decisions, traffic.clock, POLICY).current()
    wait_for_checkpoints()


def of_the_future(path: Path, traffic: Traffic) -> None:
    traffic.clock.advance(60)
    assert write_checkpoint(traffic)
    traffic.clock = VirtualClock(START)


def log_deleted(path: Path, traffic: Traffic) -> None:
    traffic.telemetry.unlink()
    write_bills(traffic.telemetry, 30, 4)


def log_truncated(path: Path, traffic: Traffic) -> None:
    os.truncate(traffic.telemetry, traffic.telemetry.stat().st_size // 2)


def log_changed_in_place(path: Path, traffic: Traffic) -> None:
    lines = traffic.telemetry.read_bytes().splitlines(keepends=True)
    del lines[-3]
    traffic.telemetry.write_bytes(b"".join(lines) + lines[-1] * 2)


def unreadable(path: Path, traffic: Traffic) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        damaged, torn, empty, foreign, older, of_another_policy, of_other_logs, of_more_logs, of_the_future,
        log_deleted, log_truncated, log_changed_in_place, unreadable,
    ],
    ids=lambda spoil: spoil.__name__,
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_passed_over_and_said(
    tmp_path: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 20)
    traffic.clock.advance(40)
    assert write_checkpoint(traffic)
    spoil(checkpoint_of(traffic), traffic)
    caplog.clear()
    caplog.set_level(logging.WARNING)
    ledger, now_us = start(traffic)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "passed over" in caplog.text
    fresh, _ = start_without(traffic)
    assert readings(ledger, now_us) == readings(fresh, now_us)
    assert ledger.folded_bytes == fresh.folded_bytes > 0


def test_a_rotated_log_that_retention_removed_before_the_window_is_not_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 20)
    traffic.telemetry.rename(tmp_path / "t.jsonl.1")
    write_bills(traffic.telemetry, 5000, 20)
    traffic.clock.advance(5020)
    assert write_checkpoint(traffic)
    (tmp_path / "t.jsonl.1").unlink()
    traffic.clock.advance(2 * 7200)
    write_bills(traffic.telemetry, 5020 + 2 * 7200, 1)
    ledger, now_us = start(traffic)
    assert (spent(ledger, now_us), len(caplog.records)) == (1_000_000, 0)


def test_sums_that_the_format_cannot_hold_cost_the_checkpoint_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty bills of just under a billion dollars: 2 × 10^19 nano-USD, more than 64 bits."""
    traffic = Traffic(tmp_path, random.Random(1))
    with traffic.telemetry.open("wb") as log:
        for number in range(20):
            log.write(encode(original_line(0, 999_999_999.0, f"r{number}")) + b"\n")
    assert not write_checkpoint(traffic)
    assert "no checkpoint could be written" in caplog.text
    ledger, now_us = start(traffic)
    assert spent(ledger, now_us) == 20 * 999_999_999 * 10**9


def test_a_full_disk_costs_the_checkpoint_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 20)
    assert write_checkpoint(traffic)
    stored = checkpoint_of(traffic).read_bytes()
    (tmp_path / "d.jsonl.checkpoint.new").mkdir()  # cannot be written to
    monkeypatch.setattr(live_state, "CHECKPOINT_EVERY_BYTES", 0)
    ledger, now_us = start(traffic)
    assert spent(ledger, now_us) == 20_000_000
    assert "no checkpoint could be written" in caplog.text
    assert checkpoint_of(traffic).read_bytes() == stored


def test_a_bill_read_before_the_checkpoint_and_again_after_it_counts_once(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path, random.Random(1))
    write_bills(traffic.telemetry, 0, 5)
    assert write_checkpoint(traffic)
    write_bills(traffic.telemetry, 0, 5)
    ledger, now_us = start(traffic)
    assert spent(ledger, now_us) == 5_000_000
