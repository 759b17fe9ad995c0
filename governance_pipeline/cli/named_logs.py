"""What commands that read log files have in common: naming them, and saying what was found in them.

What does not belong here: rows (`output`), reading the files.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from governance_pipeline.cli.output import say
from governance_pipeline.errors import BadInput
from governance_pipeline.wording import counted

# Whether it can be read is the machine's affair, not the user's: exit code 3, by whoever opens it.
NAMED_FILE = click.Path(path_type=Path, readable=False)
since_option = click.option(
    "--since", help="Only the last 90m, 24h or 7d of the logs, or from an instant on."
)


def look_for(*paths: Path | None) -> None:
    """Say which of the named files are missing; they are taken as empty.

    Raises:
        BadInput: one of them is a folder or the like.
    """
    for path in paths:
        if path is not None and path.exists() and not path.is_file():
            raise BadInput(f"{path} is no file")
        if path is not None and not path.exists():
            say(f"{path}: there is no such file; it is taken as empty.")


def say_rejected(lines: int) -> None:
    """Say how many lines were no log lines, if any."""
    if lines:
        rejected = counted(lines, "line is no log line", "lines are no log lines")
        say(f"{rejected} of ours and {'counts' if lines == 1 else 'count'} for nothing.")


def say_as_of(as_of: datetime | None, since: datetime | None) -> None:
    """Say up to when the logs tell, and from when on they were looked at; nothing of empty logs."""
    if as_of is not None:
        since_words = "" if since is None else f", requests since {since:%Y-%m-%d %H:%M:%S} UTC"
        say(f"As of {as_of:%Y-%m-%d %H:%M:%S} UTC, the logs' latest event{since_words}.")
