"""Rotated segments go into Parquet and may leave the disk without changing any answer; a rebuild reads them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dagster import AssetKey, DagsterInstance

from governance_pipeline import pipeline, warehouse
from governance_pipeline.archive import archive_segments, archived_segments
from governance_pipeline.definitions import build_defs
from governance_pipeline.errors import ArchiveDamaged, SegmentsMissing
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.rebuild import rebuild_warehouse
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import (
    append,
    decision_line,
    settings_in,
    telemetry_line,
    write_ordinary_logs,
)

TABLES = (
    "staging.stg_requests", "staging.stg_decisions", "marts.fct_requests", "marts.cost_anomalies",
    *(f"marts.{name}" for name in QUESTIONS),
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Logs of three generations: one compressed with an unterminated last line, one plain, one live."""
    settings = settings_in(tmp_path)
    write_ordinary_logs(settings)
    append(settings.telemetry_path, b"no line of ours\n\n", telemetry_line(500, 1).rstrip(b"\n"))
    oldest = settings.telemetry_path.with_name("telemetry.jsonl.2.gz")
    oldest.write_bytes(gzip.compress(settings.telemetry_path.read_bytes()))
    settings.telemetry_path.unlink()
    append(settings.telemetry_path, telemetry_line(600, 5), telemetry_line(3, 99, 0.5))
    settings.telemetry_path.rename(settings.telemetry_path.with_name("telemetry.jsonl.1"))
    settings.decisions_path.rename(settings.decisions_path.with_name("policy_decisions.jsonl.1"))
    append(settings.telemetry_path, telemetry_line(700, 36_001))
    append(settings.decisions_path, decision_line(700, 36_000))
    return settings


def contents(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for table in TABLES:
        columns = [name for name in con.table(table).columns if not name.endswith("file_id")]
        rows: list[Any] = con.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
        found[table] = sorted(map(repr, rows))
    return found


def fold(settings: Settings) -> dict[str, list[str]]:
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed = pipeline.refresh(con, settings)
        assert refreshed.failed_blocking == []
        return contents(con)


def test_archived_and_removed_segments_change_no_answer_of_a_refresh_or_a_rebuild(settings: Settings) -> None:
    before = fold(settings)
    with warehouse.connect(settings.warehouse_path) as con:
        done = archive_segments(con, settings, remove=True)
    assert [segment.log for segment in done.archived] == ["telemetry", "telemetry", "decisions"]
    assert {path.name for path in settings.telemetry_path.parent.iterdir() if "jsonl" in path.name} >= {
        "telemetry.jsonl", "policy_decisions.jsonl",
    }  # fmt: skip
    assert not list(settings.telemetry_path.parent.glob("telemetry.jsonl.*"))
    assert fold(settings) == before
    assert rebuild_warehouse(settings, say=lambda sentence: None) == []
    with warehouse.connect(settings.warehouse_path) as con:
        assert contents(con) == before
    settings.warehouse_path.unlink()
    assert fold(settings) == before, "a fresh warehouse reads the archive by itself"
    assert not list(settings.archive_path.glob(".restored*"))


def test_archiving_again_adds_nothing_and_a_segment_in_both_places_is_taken_once(settings: Settings) -> None:
    before = fold(settings)
    with warehouse.connect(settings.warehouse_path) as con:
        assert len(archive_segments(con, settings).archived) == 3
        assert archive_segments(con, settings).archived == ()
    settings.warehouse_path.unlink()
    assert fold(settings) == before


def test_what_has_not_been_ingested_to_its_end_is_not_archived(settings: Settings) -> None:
    fold(settings)
    append(settings.telemetry_path.with_name("telemetry.jsonl.1"), telemetry_line(601, 6))
    with warehouse.connect(settings.warehouse_path) as con:
        done = archive_segments(con, settings, remove=True)
    assert len(done.archived) == 2
    assert settings.telemetry_path.with_name("telemetry.jsonl.1").exists()


def test_a_segment_that_is_neither_on_disk_nor_archived_is_named(settings: Settings) -> None:
    fold(settings)
    with warehouse.connect(settings.warehouse_path) as con:
        archive_segments(con, settings, remove=True)
    [lost, *_] = [segment for segment in archived_segments(settings) if segment.log == "telemetry"]
    lost.path.unlink()
    with pytest.raises(SegmentsMissing, match=rf"telemetry\.jsonl\.\d.* \({lost.size_bytes:,} bytes\)"):
        rebuild_warehouse(settings, say=lambda sentence: None)
    assert rebuild_warehouse(settings, accept_loss=True, say=lambda sentence: None) == []


def test_a_damaged_archive_is_never_taken_for_the_truth(settings: Settings) -> None:
    fold(settings)
    with warehouse.connect(settings.warehouse_path) as con:
        archive_segments(con, settings, remove=True)
    segment = archived_segments(settings)[0]
    data = bytearray(segment.path.read_bytes())
    data[len(data) // 4] ^= 0xFF
    segment.path.write_bytes(data)
    with pytest.raises(ArchiveDamaged, match=segment.path.name):
        rebuild_warehouse(settings, say=lambda sentence: None)


def test_the_asset_archives_and_removes_only_when_it_is_told_to(settings: Settings) -> None:
    before = fold(settings)
    rotated = sorted(settings.telemetry_path.parent.glob("*.jsonl.*[0-9z]"))
    with DagsterInstance.ephemeral() as instance:
        for remove, left in ((False, rotated), (True, [])):
            job = build_defs(settings).resolve_implicit_global_asset_job_def()
            result = job.execute_in_process(
                instance=instance,
                asset_selection=[AssetKey("archived_segments")],
                run_config={"ops": {"archived_segments": {"config": {"remove_log_files": remove}}}},
            )
            assert result.success
            assert sorted(settings.telemetry_path.parent.glob("*.jsonl.*[0-9z]")) == left
    assert fold(settings) == before
