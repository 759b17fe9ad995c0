"""Publishing: a swap that no reader notices, at the price of what changed."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from governance_pipeline import pipeline, publish, warehouse
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import append, settings_in, telemetry_line, write_ordinary_logs

DAY = 86_400


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    write_ordinary_logs(made)
    append(made.telemetry_path, *(telemetry_line(500 + n, DAY + n) for n in range(5)))
    append(made.telemetry_path, *(telemetry_line(600 + n, 2 * DAY + n) for n in range(5)))
    return made


@pytest.fixture
def con(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    with warehouse.connect(settings.warehouse_path) as connection:
        yield connection


def refresh(con: duckdb.DuckDBPyConnection, settings: Settings) -> publish.Publication:
    publication = pipeline.refresh(con, settings).publication
    assert publication is not None
    return publication


def day_file(settings: Settings, day: str) -> Path:
    return settings.answers_path / "current" / "fct_requests" / f"day={day}" / "data.parquet"


def test_everything_is_published_as_it_stands_in_the_marts(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> None:
    publication = refresh(con, settings)
    with publish.reading(settings.answers_path) as published:
        assert published is not None
        folder, manifest = published
        for name in QUESTIONS:
            path = str(publish.question_file(folder, name))
            assert con.read_parquet(path).fetchall() == con.table(f"marts.{name}").fetchall()
        facts = con.read_parquet(publish.fact_files(folder), hive_partitioning=False)
        assert facts.columns == con.table("marts.fct_requests").columns
        difference = "SELECT * FROM facts EXCEPT ALL SELECT * FROM marts.fct_requests"
        assert facts.count("*").fetchall() == con.table("marts.fct_requests").count("*").fetchall()
        assert con.sql(difference).fetchall() == []
    assert manifest == publication.manifest
    assert manifest.as_of == "2026-11-21T08:00:04.000000+00:00"
    assert {source["log"]: source["ingested_bytes"] for source in manifest.sources} == {
        "telemetry": settings.telemetry_path.stat().st_size,
        "decisions": settings.decisions_path.stat().st_size,
    }
    assert json.loads((folder / "manifest.json").read_text())["config_hashes"]["economics"] == "none"


def test_only_the_days_that_changed_are_written_again(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> None:
    assert refresh(con, settings).days_written == ("2026-11-19", "2026-11-20", "2026-11-21")
    before = {
        day: day_file(settings, day).stat().st_ino for day in ("2026-11-19", "2026-11-20", "2026-11-21")
    }
    append(settings.telemetry_path, telemetry_line(700, 2 * DAY + 60))
    publication = refresh(con, settings)
    assert publication.days_written == ("2026-11-21",)
    assert publication.days_kept == ("2026-11-19", "2026-11-20")
    after = {day: day_file(settings, day).stat().st_ino for day in before}
    assert [day for day in before if before[day] != after[day]] == ["2026-11-21"]


def test_a_late_bill_rewrites_its_own_day(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    refresh(con, settings)
    append(settings.telemetry_path, telemetry_line(800, DAY + 100))
    assert refresh(con, settings).days_written == ("2026-11-20",)


def test_a_damaged_partition_is_written_again_and_not_linked_on(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> None:
    refresh(con, settings)
    day_file(settings, "2026-11-19").write_bytes(b"PAR1")
    assert refresh(con, settings).days_written == ("2026-11-19",)


def test_old_versions_go_but_never_under_a_reader(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    refresh(con, settings)
    with publish.reading(settings.answers_path) as published:
        assert published is not None
        folder, manifest = published
        for number in range(4):
            append(settings.telemetry_path, telemetry_line(900 + number, 2 * DAY + 100 + number))
            assert manifest.version not in refresh(con, settings).versions_removed
        assert con.read_parquet(publish.fact_files(folder)).count("*").fetchall() == [(70,)]
    append(settings.telemetry_path, telemetry_line(990, 2 * DAY + 200))
    assert manifest.version in refresh(con, settings).versions_removed
    assert not folder.exists()
    kept = sorted(path.name for path in (settings.answers_path / "versions").iterdir())
    assert kept == ["v00000005", "v00000006"]


def test_twin_without_the_readers_lock_a_version_vanishes_under_its_reader(
    con: duckdb.DuckDBPyConnection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish.fcntl, "flock", lambda descriptor, how: None)
    refresh(con, settings)
    with publish.reading(settings.answers_path) as published:
        assert published is not None
        for number in range(3):
            append(settings.telemetry_path, telemetry_line(900 + number, 2 * DAY + 100 + number))
            publish_only(con, settings)
        assert not published[0].exists()


def publish_only(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    pipeline.publish_answers(con, settings)


def test_what_a_killed_publisher_left_is_swept_and_never_read(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> None:
    refresh(con, settings)
    current = (settings.answers_path / "current").resolve()
    leftover = current.with_name(".building-v00000002")
    shutil.copytree(current, leftover)
    (leftover / "manifest.json").unlink()
    with publish.reading(settings.answers_path) as published:
        assert published is not None
        assert published[1].version == "v00000001"
    refresh(con, settings)
    assert not leftover.exists()


def test_readers_always_find_a_whole_version_while_others_publish(
    con: duckdb.DuckDBPyConnection, settings: Settings
) -> None:
    refresh(con, settings)
    stop, seen, troubles = threading.Event(), set[str](), list[BaseException]()

    def read_on() -> None:
        with duckdb.connect() as own:
            while not stop.is_set():
                try:
                    with publish.reading(settings.answers_path) as published:
                        assert published is not None
                        folder, manifest = published
                        seen.add(manifest.version)
                        counted = own.read_parquet(publish.fact_files(folder)).count("*").fetchall()
                        assert counted == [(sum(part.rows for part in manifest.days.values()),)]
                except BaseException as exc:  # noqa: BLE001  (whatever a reader meets fails the test)
                    troubles.append(exc)
                    return

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(12):
        publish_only(con, settings)
    stop.set()
    for reader in readers:
        reader.join()
    assert troubles == []
    assert len(seen) > 1


def test_before_anything_is_published_there_is_nothing_to_read(tmp_path: Path) -> None:
    with publish.reading(tmp_path) as published:
        assert published is None
    assert publish.current_manifest(tmp_path) is None


def test_empty_logs_publish_empty_tables_with_their_columns(tmp_path: Path) -> None:
    nothing = settings_in(tmp_path)
    with warehouse.connect(nothing.warehouse_path) as con:
        refresh(con, nothing)
        with publish.reading(nothing.answers_path) as published:
            assert published is not None
            folder, manifest = published
            facts = con.read_parquet(publish.fact_files(folder), hive_partitioning=False)
            assert facts.columns == con.table("marts.fct_requests").columns
    assert manifest.as_of is None
    assert manifest.days == {}
