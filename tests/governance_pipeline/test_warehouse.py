"""The warehouse opens one way: laid out, in UTC, waiting for whoever holds it; money and time mean there
what they mean in Python."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance_pipeline import warehouse
from governance_pipeline.errors import WarehouseLocked, WarehouseUnavailable, WarehouseVersionMismatch
from governance_pipeline.ingest import ingest
from governance_pipeline.staging import build_stg_requests
from governance_pipeline.warehouse import connect
from llmscope.errors import MalformedLine
from llmscope.money import to_nano
from llmscope.timestamps import parse_micros

HOLDER = """
import sys, time, duckdb
con = duckdb.connect(sys.argv[1])
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that holds the warehouse for a while."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.fixture(scope="module")
def macros() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(":memory:") as con:
        yield con


def test_opening_lays_out_every_schema_once_and_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "governance.duckdb"
    layouts = []
    for _ in range(2):
        with connect(path) as con:
            tables = con.execute(
                "SELECT schema_name, table_name, column_count FROM duckdb_tables() ORDER BY ALL"
            ).fetchall()
            version = con.execute("FROM ops.schema_version").fetchall()
            layouts.append((tables, version))
            assert con.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
    assert layouts[0] == layouts[1]
    assert {schema for schema, _, _ in layouts[0][0]} == {"raw", "ops"}


def test_a_held_warehouse_names_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "governance.duckdb"
    holder = hold(path, 30)
    try:
        with (
            pytest.raises(WarehouseLocked, match=f"process {holder.pid}") as locked,
            connect(path, wait_seconds=0.2),
        ):
            pass
        assert locked.value.holder_pid == holder.pid
        assert str(path) in str(locked.value)
    finally:
        holder.kill()
        holder.communicate()


def test_a_held_warehouse_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "governance.duckdb"
    holder = hold(path, 0.5)
    try:
        with connect(path, wait_seconds=20) as con:
            assert con.execute("SELECT 1").fetchall() == [(1,)]
    finally:
        holder.communicate()


def test_a_raise_inside_the_block_releases_the_file(tmp_path: Path) -> None:
    path = tmp_path / "governance.duckdb"
    with pytest.raises(ZeroDivisionError), connect(path):
        raise ZeroDivisionError
    holder = hold(path, 0)
    holder.communicate()
    assert holder.returncode == 0


def test_what_is_no_warehouse_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "governance.duckdb"
    path.write_text("not a database, but long enough to have a header" * 200)
    started = time.monotonic()
    with pytest.raises(WarehouseUnavailable, match=r"governance\.duckdb"), connect(path, wait_seconds=60):
        pass
    assert time.monotonic() - started < 30


def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(WarehouseUnavailable, match="folder cannot be created"),
        connect(tmp_path / "file" / "w"),
    ):
        pass


def test_a_warehouse_of_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warehouse, "SCHEMA_VERSION", warehouse.SCHEMA_VERSION + 1)
    with connect(tmp_path / "w.duckdb"):
        pass
    monkeypatch.undo()
    with pytest.raises(WarehouseVersionMismatch, match="governance rebuild"), connect(tmp_path / "w.duckdb"):
        pass


def test_a_warehouse_of_an_older_version_is_migrated_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older layout lacked a column and had one that is gone: rows, rejects and offsets come over, so that
    nothing is read twice, and staging is built again from all of them."""
    log = tmp_path / "telemetry.jsonl"
    line = '{{"request_id":"r{}","timestamp":"2026-03-24T10:00:00Z","estimated_cost_usd":0.5}}\n'
    log.write_text(line.format(1) + "torn\n")
    with connect(tmp_path / "w.duckdb") as con:
        ingest(con, telemetry=[log], decisions=[])
        assert build_stg_requests(con) == 1
        con.execute("ALTER TABLE raw.telemetry DROP COLUMN price_version")
        con.execute("ALTER TABLE raw.telemetry ADD COLUMN gone VARCHAR")
    monkeypatch.setattr(warehouse, "SCHEMA_VERSION", warehouse.SCHEMA_VERSION + 1)
    with log.open("a") as more:
        more.write(line.format(2))
    with connect(tmp_path / "w.duckdb") as con:
        columns = con.table("raw.telemetry").columns
        assert "price_version" in columns
        assert "gone" not in columns
        assert ingest(con, telemetry=[log], decisions=[]).new_rows == 1
        assert build_stg_requests(con) == 2
        assert con.execute("SELECT count(*) FROM raw.rejected_lines").fetchall() == [(1,)]
    with connect(tmp_path / "w.duckdb") as con:
        tables = con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'raw'").fetchall()
        assert len(tables) == 5, "nothing of the older layout is left"


def usd(con: duckdb.DuckDBPyConnection, amounts: list[float] | list[str]) -> list[Decimal | None]:
    rows = con.execute(
        "SELECT usd(amount) FROM (SELECT unnest($amounts) AS amount)", {"amounts": amounts}
    ).fetchall()
    return [row[0] for row in rows]


def nano_by_decimal(amount: float) -> int:
    """The definition, computed plainly: the double's shortest decimal form, rounded half to even."""
    return int((Decimal(repr(amount)) * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


HALF_WAY = [(half + 0.5) / 1e9 for half in [0, 1, 2, 3, 10, 11, 12345, 999_999, 1_000_001, 123_456_789_012]]


def test_python_and_sql_round_half_way_values_alike(macros: duckdb.DuckDBPyConnection) -> None:
    stated = [5e-10, 1.5e-9, 2.5e-9]
    assert usd(macros, stated) == [Decimal(0), Decimal("0.000000002"), Decimal("0.000000002")]
    amounts = [*HALF_WAY, *(-amount for amount in HALF_WAY)]
    expected = [nano_by_decimal(amount) for amount in amounts]
    assert [to_nano(amount) for amount in amounts] == expected
    assert [int(value * 10**9) for value in usd(macros, amounts) if value is not None] == expected
    assert usd(macros, [repr(amount) for amount in amounts]) == usd(macros, amounts)


def test_rounding_half_away_from_zero_would_be_seen(macros: duckdb.DuckDBPyConnection) -> None:
    """The twin: DuckDB's own cast of the text rounds otherwise, and the comparison above would fail."""
    rows = macros.execute(
        "SELECT CAST(CAST(amount AS VARCHAR) AS DECIMAL(18, 9)) FROM (SELECT unnest($amounts) AS amount)",
        {"amounts": HALF_WAY},
    ).fetchall()
    assert [row[0] for row in rows] != usd(macros, HALF_WAY)


AMOUNTS = st.one_of(
    st.floats(min_value=-999_999_999, max_value=999_999_999),
    st.floats(min_value=0, max_value=10),
    st.floats(min_value=0, max_value=1e-7),
    st.integers(0, 10**12).map(lambda half: (half + 0.5) / 1e9),
    st.integers(0, 10**15).map(lambda nano: nano / 1e9),
)


@settings(max_examples=100, deadline=None)
@given(amounts=st.lists(AMOUNTS, min_size=1, max_size=50))
def test_python_and_sql_make_the_same_money_of_any_double(
    macros: duckdb.DuckDBPyConnection, amounts: list[float]
) -> None:
    in_sql = [None if value is None else int(value * 10**9) for value in usd(macros, amounts)]
    assert in_sql == [nano_by_decimal(amount) for amount in amounts]
    assert in_sql == [to_nano(amount) for amount in amounts]


@pytest.mark.parametrize("amount", [1e9, -1e9, 1e300])
def test_money_that_does_not_fit_is_null(macros: duckdb.DuckDBPyConnection, amount: float) -> None:
    assert usd(macros, [amount]) == [None]


def test_unknown_money_stays_unknown(macros: duckdb.DuckDBPyConnection) -> None:
    assert macros.execute("SELECT usd(CAST(NULL AS DOUBLE))").fetchall() == [(None,)]


def micros(text: str) -> int | None:
    try:
        return parse_micros(text)
    except MalformedLine:
        return None


INSTANTS = st.one_of(
    st.datetimes().map(lambda at: at.isoformat()),
    st.text(alphabet="0123456789-:.+TZ ", max_size=35),
    st.builds(
        "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}{}".format,
        st.sampled_from([1999, 2000, 2024, 2026, 2099, 2100]),
        st.integers(0, 13), st.integers(0, 32), st.sampled_from("T t"), st.integers(0, 25), st.integers(0, 61),
        st.integers(0, 61), st.sampled_from(["", ".0", ".123456", ".1234567", ".999999999", ".1234567890", "."]),
        st.one_of(
            st.sampled_from(["", "Z", "z", "+00:00", "+00:00Z", "+01:00Z", "-00:00", "+00", "+0000"]),
            st.builds("{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 25), st.integers(0, 99)),
        ),
    ),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(INSTANTS, min_size=1, max_size=50))
def test_python_and_sql_read_the_same_instant_of_any_text(
    macros: duckdb.DuckDBPyConnection, texts: list[str]
) -> None:
    rows = macros.execute(
        "SELECT epoch_us(event_time(text)) FROM (SELECT unnest($texts) AS text)", {"texts": texts}
    ).fetchall()
    assert [row[0] for row in rows] == [micros(text) for text in texts]


def test_a_session_is_bounded_in_memory_and_prints_nothing_of_its_own(tmp_path: Path) -> None:
    """DuckDB would draw a progress bar into the output of a command whose statement takes two seconds."""
    with connect(tmp_path / "governance.duckdb", memory_mb=100) as con:
        settings = "current_setting('memory_limit'), current_setting('enable_progress_bar')"
        assert con.execute(f"SELECT {settings}").fetchall() == [("95.3 MiB", False)]
        con.execute("CREATE TEMP TABLE t AS SELECT range AS a, hash(range)::VARCHAR AS b FROM range(4000000)")
        assert (tmp_path / "governance.duckdb.spill").is_dir(), "what does not fit lies beside the file"
    assert not (tmp_path / "governance.duckdb.spill").exists()
