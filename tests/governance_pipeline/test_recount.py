"""Counting the logs again costs what is new, and misses nothing that counting them whole would see."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from governance_pipeline import pipeline, recount_state, warehouse
from governance_pipeline.checks import CHECKS, CheckOutcome
from governance_pipeline.recount import IngestedFile
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import (
    append,
    decision_line,
    settings_in,
    telemetry_line,
    write_ordinary_logs,
)

BLOCKING = [check for check in CHECKS if check.blocking]
FOLD_TABLES = ("recounted_bills", "recounted_charges", "recounted_spend")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    write_ordinary_logs(made)
    return made


def checked(con: duckdb.DuckDBPyConnection, settings: Settings) -> dict[str, CheckOutcome]:
    """What the blocking checks say after everything new was taken."""
    for step in (
        pipeline.ingest_logs,
        pipeline.stage_requests,
        pipeline.stage_decisions,
        pipeline.build_facts,
    ):
        step(con, settings)
    return blocking(con, settings)


def blocking(con: duckdb.DuckDBPyConnection, settings: Settings) -> dict[str, CheckOutcome]:
    return {check.name: check.run(con, settings) for check in BLOCKING}


def failures(outcomes: dict[str, CheckOutcome]) -> dict[str, str]:
    return {name: outcome.summary for name, outcome in outcomes.items() if not outcome.passed}


def kept(con: duckdb.DuckDBPyConnection) -> dict[str, list[Any]]:
    return {table: sorted(con.table(f"ops.{table}").fetchall(), key=str) for table in FOLD_TABLES}


def forget(con: duckdb.DuckDBPyConnection) -> None:
    for table in (*FOLD_TABLES, "recounted_files"):
        con.execute(f"DELETE FROM ops.{table}")


def some_lines(luck: random.Random, number: int) -> tuple[list[bytes], list[bytes]]:
    """Bills and decisions of few requests, so that they come twice, late, in disorder and without each other."""
    bills, decisions = [], []
    for _ in range(luck.randrange(30)):
        request, at = luck.randrange(60), luck.choice([0, 10, 3600, luck.randrange(20_000)])
        cost = luck.choice([None, 0, 0.001, luck.random()])
        if luck.random() < 0.6:
            bills.append(
                telemetry_line(request, at, cost, budget_namespace=luck.choice([None, "", "a", "b"]))
            )
        else:
            charged = luck.choice([None, "a", "b", "c"])
            decisions.append(decision_line(request, at, charged_namespace=charged, request_id=f"r{request}"))
    bills.append(luck.choice([b"\n", b"torn{\n", telemetry_line(number, 5, 0.1, request_id=None)]))
    return bills, decisions


@pytest.mark.parametrize("seed", range(4))
def test_piece_by_piece_comes_to_the_same_as_from_the_first_byte(tmp_path: Path, seed: int) -> None:
    luck = random.Random(seed)
    settings = settings_in(tmp_path)
    with warehouse.connect(settings.warehouse_path) as con:
        for number in range(5):
            bills, decisions = some_lines(luck, number)
            append(settings.telemetry_path, *bills)
            append(settings.decisions_path, *decisions)
            if luck.random() < 0.4:
                rotated = settings.telemetry_path.with_name(f"telemetry.jsonl.{number}.gz")
                rotated.write_bytes(gzip.compress(settings.telemetry_path.read_bytes()))
                settings.telemetry_path.write_bytes(b"")
            assert failures(checked(con, settings)) == {}
        in_pieces = kept(con)
        forget(con)
        assert failures(blocking(con, settings)) == {}
        assert kept(con) == in_pieces
        assert con.execute("SELECT count(*) > 9 FROM ops.recounted_bills").fetchall() == [(True,)]


def test_a_tie_is_decided_anew_when_a_fingerprint_grows(settings: Settings) -> None:
    """Until a file has 1,024 bytes its fingerprint, which decides between lines of one instant, changes."""
    other = settings.telemetry_path.with_name("telemetry.jsonl.1")
    with warehouse.connect(settings.warehouse_path) as con:
        for number in range(12):
            append(settings.telemetry_path, telemetry_line(7000 + number, 50_000, 0.001))
            append(other, telemetry_line(7000 + number, 50_000, 0.002))
            assert failures(checked(con, settings)) == {}
            assert other.stat().st_size < 1024 or number > 1


@pytest.fixture
def folded_lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests of every bill that is read again."""
    read: list[str] = []
    read_bills = recount_state.read_bills

    def noting(file: IngestedFile, offset: int = 0) -> Iterator[Any]:
        for request_id, bill in read_bills(file, offset):
            read.append(request_id)
            yield request_id, bill

    monkeypatch.setattr(recount_state, "read_bills", noting)
    return read


def test_only_new_lines_are_read_again(settings: Settings, folded_lines: list[str]) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        checked(con, settings)
        assert len(folded_lines) == 54
        folded_lines.clear()
        append(settings.telemetry_path, telemetry_line(8000, 60_000))
        assert failures(checked(con, settings)) == {}
        assert folded_lines == ["r8000"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ops.recounted_spend SET nano = nano + 1",
        "DELETE FROM ops.recounted_spend",
        "UPDATE ops.recounted_files SET filled = filled + 1 WHERE counted = 'lines'",
        "UPDATE ops.recounted_files SET counted_bytes = counted_bytes + 1000000",
        "UPDATE ops.recounted_files SET fingerprint = ''",
    ],
)
def test_what_was_kept_wrongly_is_counted_again_from_the_bytes(settings: Settings, damage: str) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        checked(con, settings)
        sound = kept(con)
        con.execute(damage)
        assert failures(blocking(con, settings)) == {}
        assert kept(con) == sound


def test_a_fold_that_misses_a_line_would_be_seen(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: read on a line too far, piece by piece or from the first byte, the sums differ."""
    read_bills = recount_state.read_bills

    def skipping(file: IngestedFile, offset: int = 0) -> Iterator[Any]:
        lines = read_bills(file, offset)
        next(lines)
        yield from lines

    monkeypatch.setattr(recount_state, "read_bills", skipping)
    with warehouse.connect(settings.warehouse_path) as con:
        assert set(failures(checked(con, settings))) == {"reconciliation"}


@pytest.mark.parametrize(
    ("check", "damage"),
    [
        ("reconciliation", "UPDATE marts.fct_requests SET cost_usd = 9 WHERE request_id = 'r7'"),
        ("reconciliation", "DELETE FROM staging.stg_requests WHERE request_id = 'r7'"),
        ("telemetry_line_accounting", "DELETE FROM raw.telemetry WHERE request_id = 'r7'"),
    ],
)
def test_rows_of_a_file_that_is_gone_are_still_held_to_what_it_said(
    settings: Settings, check: str, damage: str
) -> None:
    """Counted again while it was there, it needs not be there any more."""
    with warehouse.connect(settings.warehouse_path) as con:
        checked(con, settings)
        settings.telemetry_path.unlink()
        append(settings.telemetry_path, telemetry_line(9000, 60_000))
        outcomes = checked(con, settings)
        assert failures(outcomes) == {}
        assert outcomes["reconciliation"].numbers["requests"] == 55
        assert outcomes["telemetry_line_accounting"].numbers["files_no_longer_on_disk"] == 1
        con.execute(damage)
        assert set(failures(blocking(con, settings))) == {check}


def test_a_decision_file_that_went_unread_takes_its_requests_out(settings: Settings) -> None:
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.ingest_logs(con, settings)
        settings.decisions_path.unlink()
        append(settings.telemetry_path, telemetry_line(9000, 60_000))
        outcome = checked(con, settings)["reconciliation"]
    assert outcome.passed
    assert (outcome.numbers["requests"], outcome.numbers["requests_not_on_disk"]) == (1, 54)
