"""`governance archive`: rotated log segments into Parquet, and out of the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from governance_pipeline.cli.output import Format, format_option, print_rows, say
from governance_pipeline.wording import counted

if TYPE_CHECKING:
    from governance_pipeline.archive import RotatedFile

_COLUMNS = ("log", "path", "segment_bytes", "latest_line", "segment", "log_file")


@click.command(short_help="Compress rotated logs into Parquet, and remove them.")
@click.option("--remove", is_flag=True, help="Remove log files that the archive holds and no gate needs.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@format_option
def archive(remove: bool, dry_run: bool, form: Format) -> None:
    """Compress rotated log segments that were ingested to their end into Parquet.

    A rebuild reads the archive as it reads the logs, so that no answer changes. Each row is a rotated file:
    its segment is `new`, was `archived` before, or is `not_ingested` to its end; the log file `stays`, is
    `removed`, or is `needed` by a gate that starts, which reads back over its longest window.
    """
    from governance_pipeline import warehouse  # noqa: PLC0415  (DuckDB is loaded only where it is needed)
    from governance_pipeline.archive import (  # noqa: PLC0415
        archive_segments,
        gate_horizon,
        rotated_segments,
    )
    from governance_pipeline.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    if not settings.warehouse_path.is_file():
        print_rows(_COLUMNS, [], form)
        say(f"There is no warehouse yet ({settings.warehouse_path}); `governance materialize` makes one.")
        return
    with warehouse.connect(settings.warehouse_path) as con:
        files = rotated_segments(con, settings)
        horizon = gate_horizon(con, settings)
        done = None if dry_run else archive_segments(con, settings, remove=remove)
    gone = {file.path for file in done.removed} if done is not None else None
    print_rows(_COLUMNS, [_row(file, remove, gone) for file in files], form)
    if done is None:
        say("Nothing was touched: this is what would be done.")
    else:
        say(
            f"{counted(len(done.archived), 'segment')} archived in {settings.archive_path}, "
            f"{counted(len(done.removed), 'log file')} removed."
        )
    _tell_what_stays(files, remove, f"{horizon:%Y-%m-%d %H:%M} UTC")


def _row(file: RotatedFile, remove: bool, gone: set[Any] | None) -> tuple[Any, ...]:
    """One rotated file; `gone` names those that were removed, None when nothing was done yet."""
    if file.segment is None:
        return (file.log, str(file.path), None, None, "not_ingested", "stays")
    state = "archived" if file.is_archived else "new"
    if not remove:
        fate = "stays"
    elif file.is_needed:
        fate = "needed"
    else:
        fate = "removed" if gone is None or file.path in gone else "stays"
    return (file.log, str(file.path), file.segment.size_bytes, file.latest_line, state, fate)


def _tell_what_stays(files: Sequence[RotatedFile], remove: bool, horizon: str) -> None:
    if not files:
        say("No log has been rotated.")
    unfinished = [str(file.path) for file in files if file.segment is None]
    if unfinished:
        say(f"Not ingested to the end, so not archived: {', '.join(unfinished)}.")
    needed = [str(file.path) for file in files if file.segment is not None and file.is_needed]
    if remove and needed:
        say(f"A gate that starts now reads back to {horizon}, so it needs: {', '.join(needed)}.")
