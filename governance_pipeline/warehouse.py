"""The warehouse: opening the DuckDB file, its layout, and waiting for whoever holds it.

`connect` is the only way in. It lays out schemas, tables and macros from `sql/schema/` once, keeps the
session in UTC and its memory bounded, and waits with backoff while another process holds the file. A
warehouse of an older layout is brought to the present one: its raw rows are carried over, everything derived
from them is built again.

What does not belong here: what is in the tables, and publishing what readers read.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from governance_pipeline.errors import (
    WarehouseLocked,
    WarehouseUnavailable,
    WarehouseVersionMismatch,
)
from governance_pipeline.settings import DEFAULT_WAREHOUSE_MEMORY_MB
from governance_pipeline.sql_files import SqlFile, load_sql

# Raised by one when a table of `raw` changes so that rows already taken would not fit it.
SCHEMA_VERSION = 2
DEFAULT_WAIT_SECONDS = 10.0
IN_MEMORY = ":memory:"
_ASIDE = "_of_older_layout"

_SCHEMA_FILES = (
    "schema/schemas",
    "schema/version",
    "schema/macros",
    "schema/raw_tables",
    "schema/progress_tables",
)
_FIRST_WAIT_SECONDS = 0.01
_LONGEST_WAIT_SECONDS = 0.5
_HOLDER = re.compile(r"PID (\d+)")


@contextmanager
def connect(
    path: str | os.PathLike[str],
    *,
    wait_seconds: float = DEFAULT_WAIT_SECONDS,
    memory_mb: int = DEFAULT_WAREHOUSE_MEMORY_MB,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse at `path` (`:memory:` for one that ends with the block), laid out and in UTC.

    Args:
        path: the DuckDB file; it and its folder are created when missing.
        wait_seconds: how long to wait while another process holds the file.
        memory_mb: how much memory DuckDB may take; what needs more goes through a folder beside the file
            (the machine's temporary folder without one), which is gone when the block ends.

    Raises:
        WarehouseLocked: it stayed held for that long; names the holder.
        WarehouseUnavailable: it cannot be opened, created or is no warehouse.
        WarehouseVersionMismatch: it was written by a newer version, or its rows do not fit this one.
    """
    con = _open(os.fspath(path), wait_seconds)
    try:
        load_sql("schema/session").execute(
            con, memory_limit=f"{memory_mb}MB", temp_directory=_spill_folder(os.fspath(path))
        )
        _lay_out(con, os.fspath(path))
        yield con
    finally:
        con.close()


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All of the block or nothing."""
    con.begin()
    try:
        yield
        con.commit()
    except BaseException:  # an interrupt, too, must leave nothing half done; it is raised on
        con.rollback()
        raise


def _spill_folder(path: str) -> str:
    """Where DuckDB puts what does not fit into memory, created only if something does not."""
    if path != IN_MEMORY:
        return f"{path}.spill"
    return os.path.join(tempfile.gettempdir(), f"governance-{os.getpid()}.spill")  # noqa: PTH118


def _open(path: str, wait_seconds: float) -> duckdb.DuckDBPyConnection:
    if path != IN_MEMORY:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise WarehouseUnavailable(f"{path}: its folder cannot be created: {exc.strerror}") from exc
    started = time.monotonic()
    wait = _FIRST_WAIT_SECONDS
    while True:
        try:
            return duckdb.connect(path)
        except duckdb.IOException as exc:
            if "Could not set lock" not in str(exc):
                raise WarehouseUnavailable(f"{path} cannot be opened: {exc}") from exc
            waited = time.monotonic() - started
            if waited + wait > wait_seconds:
                holder = _HOLDER.search(str(exc))
                raise WarehouseLocked(path, int(holder[1]) if holder else None, waited) from exc
        except duckdb.Error as exc:
            raise WarehouseUnavailable(f"{path} cannot be opened: {exc}") from exc
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_WAIT_SECONDS)


def _lay_out(con: duckdb.DuckDBPyConnection, path: str) -> None:
    """Create what is missing, in one transaction, unless this very layout is there already."""
    files = [load_sql(name) for name in _SCHEMA_FILES]
    digest = _digest_of(files)
    stored = _stored_layout(con)
    if stored is not None and stored[0] > SCHEMA_VERSION:
        raise WarehouseVersionMismatch(
            f"{path} has layout version {stored[0]}, this package knows {SCHEMA_VERSION}: use the version "
            "that wrote it, or run `governance rebuild`, which folds the logs again"
        )
    if stored == (SCHEMA_VERSION, digest):
        return
    try:
        with transaction(con):
            older = stored is not None and stored[0] < SCHEMA_VERSION
            before = _put_aside(con) if older else []
            for file in files:
                file.execute(con)
            _carry_over(con, before)
            load_sql("schema/record_version").execute(con, version=SCHEMA_VERSION, schema_sha256=digest)
    except duckdb.ConversionException as exc:
        raise WarehouseVersionMismatch(
            f"{path} has layout version {stored[0] if stored else 0}, and its rows do not fit version "
            f"{SCHEMA_VERSION}: run `governance rebuild`, which folds the logs again"
        ) from exc


def _put_aside(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Rename the raw tables of an older layout; their names."""
    tables = [name for (name,) in load_sql("schema/raw_table_names").execute(con).fetchall()]
    for name in tables:
        con.execute(f"ALTER TABLE raw.{name} RENAME TO {name}{_ASIDE}")
    return tables


def _carry_over(con: duckdb.DuckDBPyConnection, tables: list[str]) -> None:
    """Bring the rows of an older layout into the present one, column by name. A column that is new stays null
    for them until a rebuild reads it from the logs; whatever is derived from raw is built from the start."""
    for name in tables:
        columns = load_sql("schema/common_columns").execute(con, table_name=name, aside=name + _ASIDE)
        shared = ", ".join(f'"{column}"' for (column,) in columns.fetchall())
        if shared:
            con.execute(f"DELETE FROM raw.{name}")
            con.execute(f"INSERT INTO raw.{name} BY NAME SELECT {shared} FROM raw.{name}{_ASIDE}")
        con.execute(f"DROP TABLE raw.{name}{_ASIDE}")
    if tables:
        load_sql("schema/forget_all").execute(con)


def _stored_layout(con: duckdb.DuckDBPyConnection) -> tuple[int, str] | None:
    if not load_sql("schema/has_version").execute(con).fetchall():
        return None
    rows = load_sql("schema/stored_version").execute(con).fetchall()
    return (rows[0][0], rows[0][1]) if rows else None


def _digest_of(files: list[SqlFile]) -> str:
    return hashlib.sha256("\0".join(file.text for file in files).encode()).hexdigest()
