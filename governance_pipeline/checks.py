"""Whether the warehouse can be believed: each check is a function of an open warehouse and the settings.

Blocking checks stop a refresh before anything is published; the others warn. Dagster sees them through
`assets.asset_checks`.

What does not belong here: counting the logs again (`recount`), and telling anybody (`alerts`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import duckdb

from governance_pipeline.economics import load_economics
from governance_pipeline.facts import build_fct_requests
from governance_pipeline.freshness import unread_in
from governance_pipeline.log_files import Log
from governance_pipeline.recount import Cell, LineCount, Spend, find_on_disk
from governance_pipeline.recount_state import (
    KnownFile,
    RecountedSpend,
    forget_recount,
    recount_lines,
    recount_spend,
)
from governance_pipeline.settings import Settings
from governance_pipeline.sql_files import load_sql
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from governance_pipeline.wording import counted
from llmscope.money import from_nano
from llmscope.timestamps import format_micros

# Twice the goal for a line to reach the questions is no cause to worry; fifteen times it is.
UNREAD_TOLERATED_SECONDS = 300.0
_EXAMPLES = 10
_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """What a check found.

    Attributes:
        passed: whether all is as it should be.
        summary: one sentence.
        numbers: what it compared, for the record.
    """

    passed: bool
    summary: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: its name in Dagster and in alerts.
        asset: the asset it is about.
        blocking: whether a failure stops what depends on the asset.
        description: what it holds against what.
        run: the check itself.
        audit: the same, trusting nothing that was kept from earlier runs; None where nothing is kept.
    """

    name: str
    asset: str
    blocking: bool
    description: str
    run: Callable[[duckdb.DuckDBPyConnection, Settings], CheckOutcome]
    audit: Callable[[duckdb.DuckDBPyConnection, Settings], CheckOutcome] | None = None


def line_accounting(
    log: Log, *, anew: bool = False
) -> Callable[[duckdb.DuckDBPyConnection, Settings], CheckOutcome]:
    """The accounting check of one log: rows + rejects + blank lines = lines of its files.

    Args:
        anew: count every byte again, not the new ones only.
    """

    def run(con: duckdb.DuckDBPyConnection, settings: Settings) -> CheckOutcome:
        sources = [source for source in _line_counts(con) if source["log"] == log]
        files = _known_files(con, settings, log)
        recounted = recount_lines(con, files)
        if (anew or _lines_that_differ(sources, recounted.files)) and recounted.is_repeatable:
            # What was kept from earlier counts may be what is wrong: the bytes decide.
            forget_recount(con, "lines", files)
            recounted = recount_lines(con, files)
        wrong = _lines_that_differ(sources, recounted.files)
        lines = sum(found.filled + found.blank for found in recounted.files.values())
        rows, rejects = (
            sum(source[name] for source in sources if source["file_id"] in recounted.files)
            for name in ("row_count", "reject_count")
        )
        numbers = {
            "lines": lines,
            "rows": rows,
            "rejects": rejects,
            "files": len(recounted.files),
            "files_no_longer_on_disk": sum(file.on_disk is None for file in files),
        }
        if wrong:
            return CheckOutcome(False, "; ".join(wrong[:_EXAMPLES]), numbers)
        kind = "telemetry line" if log == "telemetry" else "decision line"
        told = (
            f"Every one of {counted(lines, kind)} is a row ({rows:,}), a reject ({rejects:,}) or blank."
            if lines
            else f"There is no {kind} to account for."
        )
        return CheckOutcome(True, told, numbers)

    return run


def reconciliation(con: duckdb.DuckDBPyConnection, settings: Settings, *, anew: bool = False) -> CheckOutcome:
    """The gate's fold of the log files = staging = marts, per namespace and hour, to the nano-dollar.

    Args:
        anew: fold every byte again, not the new ones only.
    """
    _join_what_came_since(con, settings)
    files = _known_files(con, settings, "telemetry") + _known_files(con, settings, "decisions")
    recounted = recount_spend(con, files)
    wrong = _cells_that_differ(con, recounted)
    if (anew or wrong) and recounted.is_repeatable:
        # What was kept from earlier folds may be what is wrong: the bytes decide.
        forget_recount(con, "spend", files)
        recounted = recount_spend(con, files)
        wrong = _cells_that_differ(con, recounted)
    folded = recounted.cells
    total = sum(spend.nano for spend in folded.values())
    numbers = {
        "cells": len(folded),
        "cells_that_differ": len(wrong),
        "requests": sum(spend.requests for spend in folded.values()),
        "requests_not_on_disk": recounted.requests_of_other_files,
        "spent_usd": from_nano(total),
    }
    if wrong:
        differing = counted(len(wrong), "namespace-hour differs", "namespace-hours differ")
        return CheckOutcome(False, f"{differing}: " + "; ".join(wrong[:_EXAMPLES]), numbers)
    agreeing = counted(len(folded), "namespace-hour agrees", "namespace-hours agree")
    return CheckOutcome(
        True,
        f"{agreeing} to the nano-dollar in the logs, in staging and in the marts: ${total / _NANO:,.9f}."
        if folded
        else "No spend stands in the logs, in staging or in the marts.",
        numbers,
    )


def duplicates(con: duckdb.DuckDBPyConnection, settings: Settings) -> CheckOutcome:
    """No request id stands on more than one telemetry line."""
    del settings
    [(ids, lines, examples)] = load_sql("checks/duplicates").execute(con).fetchall()
    return CheckOutcome(
        ids == 0,
        "Every request id stands on one telemetry line."
        if ids == 0
        else f"{counted(ids, 'request id stands', 'request ids stand')} on "
        f"{counted(lines, 'telemetry line')} too many, each counted once: " + ", ".join(examples),
        {"request_ids": ids, "extra_lines": lines},
    )


def missing_telemetry(con: duckdb.DuckDBPyConnection, settings: Settings) -> CheckOutcome:
    """Every admitted request has telemetry by the time its reservation expires."""
    del settings
    [(count, reserved, examples)] = load_sql("checks/missing_telemetry").execute(con).fetchall()
    return CheckOutcome(
        count == 0,
        "Every admitted request has telemetry or time left."
        if count == 0
        else f"{counted(count, 'admitted request')} never brought telemetry (${reserved:,.6f} was reserved): "
        + ", ".join(examples),
        {"requests": count, "reserved_usd": float(reserved)},
    )


def time_disorder(con: duckdb.DuckDBPyConnection, settings: Settings) -> CheckOutcome:
    """No line is dated more than 15 minutes before a line above it."""
    del settings
    found = load_sql("checks/time_disorder").execute(con).fetchall()
    return CheckOutcome(
        not found,
        "Both logs are in order of time, within 15 minutes."
        if not found
        else "; ".join(
            f"{counted(lines, 'line')} of {log} dated before what stands above, by up to "
            f"{worst / 60:,.0f} minutes"
            for log, lines, worst in found
        )
        + ": a gate that starts now may pass over them",
        {log: lines for log, lines, _ in found},
    )


def accepted_values(con: duckdb.DuckDBPyConnection, settings: Settings) -> CheckOutcome:
    """Decisions, primitives, modes, states, statuses and events are among those that readers know."""
    del settings
    found = load_sql("checks/accepted_values").execute(con).fetchall()
    return CheckOutcome(
        not found,
        "Every value is one that readers know."
        if not found
        else "; ".join(
            f"{column} is {value!r} on {counted(rows, 'row')}" for column, value, rows in found[:_EXAMPLES]
        ),
        {column: rows for column, _, rows in found},
    )


def freshness(con: duckdb.DuckDBPyConnection, settings: Settings) -> CheckOutcome:
    """No whole line has been waiting to be ingested for longer than five minutes.

    The age of what is unread is told from the file and from what this check saw before, never from the
    times written in the lines.
    """
    now = time.time()
    sources = ingested_sources(con)
    unread = [part for part in unread_in(settings.logs, sources) if part.has_whole_line]
    load_sql("checks/freshness_tables").execute(con)
    seen = load_sql("checks/note_unread").execute_with(
        con,
        {
            "paths": [str(part.path) for part in unread],
            "offsets": [part.offset for part in unread],
            "now_seconds": now,
        },
    )
    since: dict[str, float] = dict(seen.fetchall())
    ages = {
        part.path: max(now - part.modified_at, now - since.get(str(part.path), now), 0.0) for part in unread
    }
    total = sum(part.size_bytes for part in unread)
    oldest = max(ages.values(), default=0.0)
    numbers = {"unread_bytes": total, "oldest_unread_seconds": round(oldest, 1), "files": len(unread)}
    if not unread:
        return CheckOutcome(True, "Nothing waits to be ingested.", numbers)
    if oldest <= UNREAD_TOLERATED_SECONDS:
        waiting = counted(total, "byte waits", "bytes wait")
        return CheckOutcome(True, f"{waiting} to be ingested, for {oldest:,.0f} s at most.", numbers)
    late = [path for path, age in ages.items() if age > UNREAD_TOLERATED_SECONDS]
    return CheckOutcome(
        False,
        f"{total:,} bytes have been waiting to be ingested for up to {oldest / 60:,.0f} minutes: "
        + ", ".join(str(path) for path in late),
        numbers,
    )


def ingested_sources(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """How far each log file has been ingested: what `freshness.unread_in` and the manifest take."""
    return _mappings(load_sql("publish/sources").execute(con))


def missing_sources(con: duckdb.DuckDBPyConnection, settings: Settings) -> list[dict[str, Any]]:
    """What was ingested of log files that are no longer on disk; `path` is where each was seen last."""
    gone = {
        file.file_id
        for log in settings.logs
        for file in _known_files(con, settings, log)
        if file.on_disk is None
    }
    return [source for source in _line_counts(con) if source["file_id"] in gone]


def _join_what_came_since(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Stage and join what another run has ingested or staged since this one did: runs take turns at the
    warehouse step by step, and the logs are counted as far as they were ingested."""
    [(waiting,)] = load_sql("checks/waiting").execute(con).fetchall()
    if waiting:
        build_stg_requests(con)
        build_stg_decisions(con)
        build_fct_requests(con, load_economics(settings.economics_path))


def _known_files(con: duckdb.DuckDBPyConnection, settings: Settings, log: Log) -> list[KnownFile]:
    sources = [source for source in _line_counts(con) if source["log"] == log]
    on_disk = find_on_disk(settings.logs[log], sources)
    return [
        KnownFile(
            source["file_id"],
            log,
            source["fingerprint"],
            source["ingested_bytes"],
            on_disk.get(source["file_id"]),
        )
        for source in sources
    ]


def _line_counts(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    return _mappings(load_sql("checks/line_counts").execute(con))


def _mappings(result: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    columns = [column[0] for column in result.description or ()]
    return [dict(zip(columns, row, strict=True)) for row in result.fetchall()]


def _lines_that_differ(sources: Sequence[Mapping[str, Any]], recounted: Mapping[int, LineCount]) -> list[str]:
    """The files of which the warehouse holds other lines than were counted."""
    return [
        f"{source['path']}: {counted(found.filled, 'line')} and {found.blank:,} blank in its first "
        f"{counted(source['ingested_bytes'], 'byte')}, but {counted(source['row_count'], 'row')}, "
        f"{counted(source['reject_count'], 'reject')} and {source['blank_count']:,} blank in the warehouse"
        for source in sources
        if (found := recounted.get(source["file_id"])) is not None
        and (found.filled, found.blank)
        != (source["row_count"] + source["reject_count"], source["blank_count"])
    ]


def _cells_that_differ(con: duckdb.DuckDBPyConnection, recounted: RecountedSpend) -> list[str]:
    """The cells of which staging or the marts hold another spend than the logs."""
    folded, file_ids = recounted.cells, list(recounted.file_ids)
    staged = _cells(con, "checks/spend_in_staging", file_ids)
    marts = _cells(con, "checks/spend_in_marts", file_ids)
    return [
        f"{namespace} at {format_micros(hour)[:13]}h: logs {_told(folded, cell)}, "
        f"staging {_told(staged, cell)}, marts {_told(marts, cell)}"
        for cell in sorted(folded.keys() | staged.keys() | marts.keys())
        if not folded.get(cell) == staged.get(cell) == marts.get(cell)
        for namespace, hour in [cell]
    ]


def _cells(con: duckdb.DuckDBPyConnection, name: str, file_ids: list[int]) -> dict[Cell, Spend]:
    rows = load_sql(name).execute(con, file_ids=file_ids).fetchall()
    return {
        (namespace, hour): Spend(requests, unknown, int(spent.scaleb(9)))
        for namespace, hour, requests, unknown, spent in rows
    }


def _told(cells: Mapping[Cell, Spend], cell: Cell) -> str:
    spend = cells.get(cell)
    if spend is None:
        return "nothing"
    return f"${spend.nano / _NANO:.9f} in {counted(spend.requests, 'request')} ({spend.unknown} unknown)"


CHECKS: tuple[Check, ...] = (
    Check(
        "telemetry_line_accounting",
        "raw_telemetry",
        True,
        "Rows + rejects + blank lines = lines of the telemetry files, counted again from their bytes.",
        line_accounting("telemetry"),
        line_accounting("telemetry", anew=True),
    ),
    Check(
        "decision_line_accounting",
        "raw_policy_decisions",
        True,
        "Rows + rejects + blank lines = lines of the decision files, counted again from their bytes.",
        line_accounting("decisions"),
        line_accounting("decisions", anew=True),
    ),
    Check(
        "reconciliation",
        "fct_requests",
        True,
        "The gate's own fold of the log files = staging = marts, per namespace and hour, to the nano-dollar.",
        reconciliation,
        partial(reconciliation, anew=True),
    ),
    Check(
        "duplicate_requests",
        "stg_requests",
        False,
        "No request id stands on two telemetry lines.",
        duplicates,
    ),
    Check(
        "missing_telemetry",
        "fct_requests",
        False,
        "Every admitted request brought telemetry before its reservation expired.",
        missing_telemetry,
    ),
    Check(
        "time_disorder",
        "raw_telemetry",
        False,
        "No line is dated more than 15 minutes before a line above it.",
        time_disorder,
    ),
    Check(
        "accepted_values",
        "stg_decisions",
        False,
        "Decisions, primitives, modes, states, statuses and events are ones that readers know.",
        accepted_values,
    ),
    Check(
        "log_freshness",
        "raw_telemetry",
        False,
        "No whole line of either log has been waiting to be ingested for more than five minutes.",
        freshness,
    ),
)
