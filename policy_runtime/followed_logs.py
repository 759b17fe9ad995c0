"""Which telemetry logs a gate folds: its own, and those of programs that keep a file of their own.

What does not belong here: how such names are written (`llmscope.log_names`), following them (`history`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llmscope.log_names import Named, matches_of, names_a_path, would_find
from policy_runtime.errors import SettingsError


def followed_logs(telemetry_path: Path, names: Sequence[Named], decisions_path: Path) -> tuple[Path, ...]:
    """The logs to fold now: `telemetry_path`, then what the names find, each once. A path is followed from
    its first line on, be it there or not; of a pattern what it matches now. Of a log's rotated and compressed
    generations only the log itself is named, for whoever follows it reads those too.

    Raises:
        SettingsError: a name would find the decision log, whose estimates would be counted as spending.
    """
    same = telemetry_path.resolve() == decisions_path.resolve()
    for named in [telemetry_path] if same else names:
        if same or Path(named).resolve() == decisions_path.resolve() or would_find(named, decisions_path):
            raise SettingsError(
                f"{str(named)!r} names the decision log {str(decisions_path)!r} too: its estimates would be "
                "counted as spending. Give telemetry and decisions a file each"
            )
    found = [telemetry_path]
    for named in names:
        found += [Path(named)] if names_a_path(named) else _logs_among(matches_of(named))
    return tuple({path.absolute(): path for path in found}.values())


def _logs_among(matches: list[Path]) -> list[Path]:
    logs = {str(path).removesuffix(".gz") for path in matches}
    return [
        Path(log) for log in sorted(logs) if not any(log.startswith(f"{other}.") for other in logs - {log})
    ]
