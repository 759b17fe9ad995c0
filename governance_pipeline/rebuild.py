"""`governance rebuild`: a fresh warehouse folded beside the present one, checked, and swapped in.

What does not belong here: the folding itself (`pipeline`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from governance_pipeline import pipeline, warehouse
from governance_pipeline.archive import archived_segments
from governance_pipeline.checks import missing_sources
from governance_pipeline.errors import SegmentsMissing, WarehouseVersionMismatch
from governance_pipeline.settings import Settings
from governance_pipeline.wording import counted


def rebuild_warehouse(
    settings: Settings, *, accept_loss: bool = False, say: Callable[[str], None]
) -> list[str]:
    """Fold both logs into a new file and put it in the place of the warehouse, then publish from it.

    The present warehouse stays locked meanwhile, so that no run writes what would be thrown away.

    Args:
        settings: where everything is.
        accept_loss: go on although ingested log files are neither on disk nor in the archive.
        say: takes a sentence as progress.

    Returns:
        What the blocking checks that failed say; the present warehouse stays then. Empty when swapped.

    Raises:
        SegmentsMissing: files that were ingested are gone, and `accept_loss` is false.
        governance_pipeline.errors.WarehouseError: the present warehouse is locked or cannot be opened.
    """
    target = settings.warehouse_path
    if not target.exists():
        return _fold_into(settings, target, None, say)
    try:
        with warehouse.connect(target, memory_mb=settings.warehouse_memory_mb) as present:
            if not accept_loss:
                _refuse_loss(present, settings)
            present.execute("CHECKPOINT")
            return _fold_into(settings, target, present, say)
    except WarehouseVersionMismatch as exc:
        say(str(exc))
        return _fold_into(settings, target, None, say)


def _fold_into(
    settings: Settings, target: Path, present: duckdb.DuckDBPyConnection | None, say: Callable[[str], None]
) -> list[str]:
    beside = target.with_name(f"{target.name}.rebuilding")
    _remove(beside)
    say(f"folding the logs into {beside}")
    fresh = settings.with_warehouse(beside)
    with warehouse.connect(beside, memory_mb=settings.warehouse_memory_mb) as con:
        refreshed = pipeline.refresh(con, fresh, publishing=False)
        failed = refreshed.failed_blocking
        if not failed:
            pipeline.publish_answers(con, fresh)
        con.execute("CHECKPOINT")
    taken = refreshed.ingested
    say(f"{counted(taken.new_rows, 'row')} and {counted(taken.new_rejects, 'reject')}")
    if failed:
        _remove(beside)
        return failed
    if present is None:
        _wal_of(target).unlink(missing_ok=True)
    beside.replace(target)
    return []


def _refuse_loss(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    archived = archived_segments(settings)
    gone = [
        source
        for source in missing_sources(con, settings)
        if not any(segment.holds(source) for segment in archived)
    ]
    if gone:
        named = ", ".join(f"{source['path']} ({source['ingested_bytes']:,} bytes)" for source in gone)
        raise SegmentsMissing(
            f"these log files were ingested and are neither on disk nor in the archive: {named}. "
            "A rebuild would lose what they held; bring them back, or give --accept-loss"
        )


def _wal_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _wal_of(path).unlink(missing_ok=True)
