"""Publishing: the answers as plain Parquet files that nobody has to wait for.

    answers/
      current -> versions/v00000007        the one name that readers follow; replaced atomically
      versions/v00000007/
        manifest.json                      as of when, from which offsets and configuration, every file
        questions/<question>.parquet
        tables/<table>.parquet             cost_anomalies, budget_alerts
        fct_requests/day=2026-11-21/data.parquet
        .readers                           readers hold a shared flock on it

A version is a whole, consistent snapshot; a day of `fct_requests` whose rows did not change is a hard
link to the file of the version before, so publishing costs what changed. A version that somebody reads
is not removed, and the one before the current is always kept for readers that take no lock.

What does not belong here: what the tables mean, and how answers are read (`answers`).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from governance_pipeline.sql_files import load_sql
from governance_pipeline.warehouse import transaction
from llmscope.event_log import AdmissionLock

CURRENT = "current"
MANIFEST = "manifest.json"
_VERSIONS = "versions"
_READERS = ".readers"
_FACTS = "fct_requests"
# The present version and the one before: a reader without a lock has one whole refresh to finish in.
_VERSIONS_KEPT = 2
_LOCK_TIMEOUT_SECONDS = 30.0
MANIFEST_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Partition:
    """One published day of `fct_requests`: how it is recognised without reading it."""

    rows: int
    digest: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a published version holds and what it was folded from.

    Attributes:
        version: the name of its folder.
        as_of: the logs' own time, RFC 3339, None when they are empty.
        sources: one entry per log file that was folded: log, path, fingerprint, offset.
        config_hashes: SHA-256 of the configuration each result depends on, by name.
        tables: rows of every published table, by name.
        days: the partitions of `fct_requests`, by day.
    """

    version: str
    as_of: str | None
    sources: tuple[Mapping[str, Any], ...] = ()
    config_hashes: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, int] = field(default_factory=dict)
    days: Mapping[str, Partition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publication:
    """What one publishing did."""

    manifest: Manifest
    days_written: tuple[str, ...]
    days_kept: tuple[str, ...]
    versions_removed: tuple[str, ...]


def publish(
    con: duckdb.DuckDBPyConnection,
    answers_path: Path,
    *,
    questions: Sequence[str],
    tables: Mapping[str, str],
    as_of: str | None,
    sources: Sequence[Mapping[str, Any]],
    config_hashes: Mapping[str, str],
) -> Publication:
    """Write the present state of the marts as the next version and make it the current one.

    Args:
        con: the warehouse.
        answers_path: the folder of the versions.
        questions: names of question tables in `marts`.
        tables: further tables, by published name: their qualified name in the warehouse.
        as_of, sources, config_hashes: see `Manifest`.

    Raises:
        TimeoutError: another process has been publishing for 30 seconds.
        OSError: the folder cannot be written.
    """
    versions = answers_path / _VERSIONS
    versions.mkdir(parents=True, exist_ok=True)
    lock = AdmissionLock(answers_path / ".publish.lock")
    if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
        raise TimeoutError(f"{answers_path}: somebody has been publishing for {_LOCK_TIMEOUT_SECONDS:g} s")
    try:
        previous = current_manifest(answers_path)
        name = _next_version(versions)
        building = versions / f".building-{name}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir()
        counts = _write_tables(con, building, questions, tables)
        days, written = _write_facts(con, building, versions, previous)
        manifest = Manifest(name, as_of, tuple(sources), dict(config_hashes), counts, days)
        (building / _READERS).touch()
        (building / MANIFEST).write_bytes(_encode(manifest))
        building.rename(versions / name)
        _point_at(answers_path, name)
        removed = _prune(answers_path, versions)
    finally:
        lock.release()
        lock.close()
    kept = tuple(day for day in days if day not in written)
    return Publication(manifest, written, kept, removed)


def current_manifest(answers_path: Path) -> Manifest | None:
    """The manifest of the current version; None before anything was published."""
    try:
        return _decode((answers_path / CURRENT / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None


@contextmanager
def reading(answers_path: Path) -> Iterator[tuple[Path, Manifest] | None]:
    """The folder and manifest of the current version, which stays there for the length of the block.

    Yields None before anything was published.
    """
    while True:
        try:
            folder = (answers_path / CURRENT).resolve(strict=True)
            descriptor = os.open(folder / _READERS, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not (answers_path / CURRENT).exists():
                yield None
                return
            continue  # it was replaced and removed between the two steps: take its successor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if not (folder / _READERS).exists():
                continue
            yield folder, _decode((folder / MANIFEST).read_bytes())
            return
        finally:
            os.close(descriptor)


def question_file(folder: Path, question: str) -> Path:
    """Where a version keeps the answer to a question."""
    return folder / "questions" / f"{question}.parquet"


def table_file(folder: Path, table: str) -> Path:
    """Where a version keeps one of the further tables."""
    return folder / "tables" / f"{table}.parquet"


def fact_files(folder: Path) -> list[str]:
    """The Parquet files of `fct_requests`, oldest day first; at least one, be it empty."""
    return sorted(str(path) for path in (folder / _FACTS).glob("day=*/data.parquet"))


def _write_tables(
    con: duckdb.DuckDBPyConnection, folder: Path, questions: Sequence[str], tables: Mapping[str, str]
) -> dict[str, int]:
    (folder / "questions").mkdir()
    (folder / "tables").mkdir()
    counts = {}
    for question in questions:
        counts[question] = _copy(con.table(f"marts.{question}"), question_file(folder, question))
    for name, qualified in tables.items():
        counts[name] = _copy(con.table(qualified), table_file(folder, name))
    return counts


def _copy(relation: duckdb.DuckDBPyRelation, path: Path) -> int:
    relation.write_parquet(str(path), compression="zstd")
    row = relation.count("*").fetchall()
    return int(row[0][0])


def _write_facts(
    con: duckdb.DuckDBPyConnection, folder: Path, versions: Path, previous: Manifest | None
) -> tuple[dict[str, Partition], tuple[str, ...]]:
    days: dict[str, Partition] = {}
    written: list[str] = []
    known = {} if previous is None else previous.days
    _count_changed_days(con)
    for day, rows, digest in load_sql("publish/fact_days").execute(con).fetchall():
        path = _day_file(folder, day)
        path.parent.mkdir(parents=True)
        before = known.get(day)
        if previous is not None and before is not None and (before.rows, before.digest) == (rows, digest):
            published = _day_file(versions / previous.version, day)
            if published.is_file() and published.stat().st_size == before.bytes:
                path.hardlink_to(published)
                days[day] = before
                continue
        load_sql("publish/fact_day").execute(con, day=day, path=str(path)).fetchall()
        days[day] = Partition(rows, digest, path.stat().st_size)
        written.append(day)
    if not days:  # a reader always finds the columns, be there no row
        path = _day_file(folder, "none")
        path.parent.mkdir(parents=True)
        con.table(f"marts.{_FACTS}").limit(0).write_parquet(str(path), compression="zstd")
    return days, tuple(written)


def _count_changed_days(con: duckdb.DuckDBPyConnection) -> None:
    with transaction(con):
        [(since, are_counted)] = load_sql("publish/changed_since").execute(con).fetchall()
        if since is not None or not are_counted:
            load_sql("publish/update_fact_days").execute(con, since=since if are_counted else None)


def _day_file(folder: Path, day: str) -> Path:
    return folder / _FACTS / f"day={day}" / "data.parquet"


def _next_version(versions: Path) -> str:
    taken = [int(path.name[1:]) for path in versions.glob("v*") if path.name[1:].isdecimal()]
    return f"v{max(taken, default=0) + 1:08d}"


def _point_at(answers_path: Path, version: str) -> None:
    link = answers_path / f".{CURRENT}-next"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(_VERSIONS) / version, target_is_directory=True)
    link.replace(answers_path / CURRENT)


def _prune(answers_path: Path, versions: Path) -> tuple[str, ...]:
    """Remove what is neither among the newest nor being read, and what a killed publisher left."""
    removed = []
    for leftover in [*versions.glob(".building-*"), *versions.glob(".removed-*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    for folder in sorted(versions.glob("v*"))[:-_VERSIONS_KEPT]:
        if folder != (answers_path / CURRENT).resolve() and _take_away(folder, doomed := _doomed(folder)):
            shutil.rmtree(doomed)
            removed.append(folder.name)
    return tuple(removed)


def _doomed(folder: Path) -> Path:
    return folder.with_name(f".removed-{folder.name}")


def _take_away(folder: Path, doomed: Path) -> bool:
    """Rename a version out of sight unless somebody reads it; a reader that waits for the lock meanwhile
    finds the folder gone and takes the current one."""
    try:
        descriptor = os.open(folder / _READERS, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        folder.rename(doomed)
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.rename(doomed)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _encode(manifest: Manifest) -> bytes:
    document = {
        "format": MANIFEST_FORMAT,
        "version": manifest.version,
        "as_of": manifest.as_of,
        "sources": [dict(source) for source in manifest.sources],
        "config_hashes": dict(manifest.config_hashes),
        "tables": dict(manifest.tables),
        "days": {
            day: {"rows": part.rows, "digest": part.digest, "bytes": part.bytes}
            for day, part in manifest.days.items()
        },
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def _decode(text: bytes) -> Manifest:
    document = json.loads(text)
    return Manifest(
        version=document["version"],
        as_of=document["as_of"],
        sources=tuple(document["sources"]),
        config_hashes=document["config_hashes"],
        tables=document["tables"],
        days={day: Partition(**part) for day, part in document["days"].items()},
    )
