"""What archiving may take off the disk: only what reads back from the archive, and nothing a gate still reads."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from governance_pipeline import archive, pipeline, warehouse
from governance_pipeline.archive import archive_segments, archived_segments, gate_horizon, rotated_segments
from governance_pipeline.cli.explain import follow
from governance_pipeline.errors import ArchiveDamaged
from governance_pipeline.settings import Settings
from llmscope.clock import VirtualClock
from policy_runtime import PolicyRuntime
from tests.governance_pipeline.refresh_logs import START, append, decision_line, settings_in, telemetry_line

HOUR = 3600
NOW = START + timedelta(hours=60)
POLICY = """\
version: 1
namespaces:
  team-1:
    rules:
      - {id: cap, primitive: budget_threshold, period: daily, limit_usd: 10, action: deny}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A daily budget; generations whose latest lines are 58, 25 and 20 hours old, and live logs."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    settings = replace(settings_in(tmp_path / "home"), policy_path=policy)
    for generation, hours in (("3", 2), ("2", 35), ("1", 40), ("", 59.5)):
        for path, line in (
            (settings.telemetry_path, telemetry_line(round(hours * 2) * 2 + 1, hours * HOUR + 1, 0.5)),
            (settings.decisions_path, decision_line(round(hours * 2) * 2 + 1, hours * HOUR)),
        ):
            append(path, line)
            if generation:
                path.rename(path.with_name(f"{path.name}.{generation}"))
    return settings


@pytest.fixture
def con(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.refresh(con, settings, publishing=False)
        yield con


def spent_usd(settings: Settings) -> float:
    """What a gate that starts now finds spent of the daily budget."""
    gate = PolicyRuntime(
        settings.policy_path,
        telemetry_path=settings.telemetry_path,
        decisions_path=settings.decisions_path,
        clock=VirtualClock(NOW),
    )
    try:
        [window] = gate.live_windows()
        return float(window.spent)
    finally:
        gate.close()


def generations(settings: Settings) -> list[str]:
    return sorted(path.name for path in settings.telemetry_path.parent.glob("telemetry.jsonl.[0-9]"))


def test_what_a_starting_gate_reads_stays_and_is_named(
    settings: Settings, con: duckdb.DuckDBPyConnection
) -> None:
    """A day, a quarter of an hour for reservations and an hour for disorder: 25.25 hours."""
    clock = VirtualClock(NOW)
    assert gate_horizon(con, settings, clock=clock) == NOW - timedelta(hours=25, minutes=15)
    before = spent_usd(settings)
    assert before == 1.0
    done = archive_segments(con, settings, remove=True, clock=clock)
    assert len(done.archived) == 6
    assert {file.path.name for file in done.removed} == {"telemetry.jsonl.3", "policy_decisions.jsonl.3"}
    assert {file.path.name for file in done.kept} >= {"telemetry.jsonl.2", "telemetry.jsonl.1"}
    assert generations(settings) == ["telemetry.jsonl.1", "telemetry.jsonl.2"]
    assert spent_usd(settings) == before


def test_twin_that_removes_whatever_is_archived_takes_spend_from_the_gate(
    settings: Settings, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "gate_horizon", lambda con, settings, *, clock: NOW)
    before = spent_usd(settings)
    archive_segments(con, settings, remove=True, clock=VirtualClock(NOW))
    assert generations(settings) == []
    assert spent_usd(settings) < before


def test_the_longest_window_is_that_of_any_policy_that_a_gate_has_loaded(settings: Settings) -> None:
    """Whoever archives need not stand in the folder of the policy: the decision log tells it."""
    unaware = replace(settings, policy_path=None)
    clock = VirtualClock(NOW)
    with warehouse.connect(warehouse.IN_MEMORY) as con:
        pipeline.ingest_logs(con, unaware)
        assert gate_horizon(con, unaware, clock=clock) == NOW - timedelta(hours=2, minutes=15)
        spent_usd(settings)  # a gate that starts says nothing; one that decides names its policy
        append(
            settings.decisions_path, decision_line(9, 59 * HOUR, event="policy_loaded", policy_text=POLICY)
        )
        pipeline.ingest_logs(con, unaware)
        assert gate_horizon(con, unaware, clock=clock) == NOW - timedelta(hours=25, minutes=15)
        newer = "version: 9\nnamespaces: {default: {rules: [{id: a, primitive: of_the_future}]}}\n"
        append(settings.decisions_path, decision_line(9, 59 * HOUR, event="policy_loaded", policy_text=newer))
        pipeline.ingest_logs(con, unaware)
        assert gate_horizon(con, unaware, clock=clock) == NOW - timedelta(days=64)


def test_nothing_is_removed_on_the_word_of_an_archive_that_does_not_read_back(
    settings: Settings, con: duckdb.DuckDBPyConnection
) -> None:
    clock = VirtualClock(NOW + timedelta(days=9))
    archive_segments(con, settings, clock=clock)
    segment = next(segment for segment in archived_segments(settings) if segment.log == "telemetry")
    segment.path.write_bytes(segment.path.read_bytes()[:-20])
    before = generations(settings)
    with pytest.raises(ArchiveDamaged, match=segment.path.name):
        archive_segments(con, settings, remove=True, clock=clock)
    assert len(generations(settings)) >= len(before) - 2
    damaged = [file for file in rotated_segments(con, settings, clock=clock) if file.segment == segment]
    assert [file.path.exists() for file in damaged] == [True]


def test_a_log_file_that_differs_from_its_archived_namesake_stays(
    settings: Settings, con: duckdb.DuckDBPyConnection
) -> None:
    """Beginning, length and end are those of the archived segment, a byte in the middle is not."""
    append(settings.telemetry_path, *(telemetry_line(n, 59.6 * HOUR + n, 0.1) for n in range(200, 220)))
    settings.telemetry_path.rename(settings.telemetry_path.with_name("telemetry.jsonl.0"))
    pipeline.ingest_logs(con, settings)
    clock = VirtualClock(NOW + timedelta(days=9))
    archive_segments(con, settings, clock=clock)
    path = settings.telemetry_path.with_name("telemetry.jsonl.0")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(data)
    with pytest.raises(ArchiveDamaged, match=r"is not what stands in .*telemetry\.jsonl\.0"):
        archive_segments(con, settings, remove=True, clock=clock)
    assert path.exists()


def test_a_half_written_segment_of_a_killed_archiving_is_written_again(
    settings: Settings, con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock(NOW)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", lambda path, target: (_ for _ in ()).throw(OSError("killed here")))
        with pytest.raises(OSError, match="killed here"):
            archive_segments(con, settings, remove=True, clock=clock)
    assert archived_segments(settings) == []
    assert generations(settings) == ["telemetry.jsonl.1", "telemetry.jsonl.2", "telemetry.jsonl.3"]
    assert len(archive_segments(con, settings, remove=True, clock=clock).archived) == 6


def test_a_request_is_explained_from_the_archive_too_and_each_line_once(
    settings: Settings, con: duckdb.DuckDBPyConnection
) -> None:
    archive_segments(con, settings, remove=True, clock=VirtualClock(NOW))
    gone, both = follow("r9", settings), follow("r141", settings)
    assert gone.decision is not None
    assert [usage.cost_nano for usage in gone.usages] == [500_000_000]
    assert [usage.cost_nano for usage in both.usages] == [500_000_000]


def test_files_of_other_programs_are_archived_once_nobody_writes_them(
    settings: Settings, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    with_others = replace(settings, telemetry_globs=(str(others / "*"),))
    append(others / "batch.jsonl", telemetry_line(900, 1))
    append(others / "batch.jsonl.20261118", telemetry_line(901, 2))
    append(others / "weekly", telemetry_line(902, 3))
    append(others / "weekly.jsonl", telemetry_line(903, 4))  # no generation: it may be live
    (others / "old.gz").write_bytes(gzip.compress(telemetry_line(904, 5)))
    shutil.copy(others / "batch.jsonl", others / "batch.jsonl.lock")
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.ingest_logs(con, with_others)
        names = {file.path.name for file in rotated_segments(con, with_others)}
    assert names - {path.name for path in settings.telemetry_path.parent.iterdir()} == {
        "batch.jsonl.20261118",
        "old.gz",
    }
