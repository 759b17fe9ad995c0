"""How log files are named: paths and patterns, in lists such as `TELEMETRY_GLOBS`.

A name that is a file, or holds none of `*?[`, is a path; anything else is a pattern, in which `**` means no
more than `*`. What does not belong here: which generations a log has (`event_log`), reading any of them.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path

Named = str | os.PathLike[str]

_PATTERN_CHARACTERS = "*?["
_GENERATIONS = ("", ".1", ".1.gz", ".gz")
# What a log may have beside it under such a name without being a part of it.
_NO_LOG = (".lock", ".checkpoint", ".checkpoint.new")


def names_in(environ: Mapping[str, str], variable: str) -> tuple[str, ...]:
    """The paths and patterns that a variable lists, separated as in `PATH`."""
    return tuple(named for named in environ.get(variable, "").split(os.pathsep) if named)


def is_pattern(name: Named) -> bool:
    """Whether a name holds characters that make it a pattern."""
    return any(character in os.fspath(name) for character in _PATTERN_CHARACTERS)


def names_a_path(name: Named) -> bool:
    """Whether a name is a path: there is such a file, or it is no pattern."""
    return not is_pattern(name) or Path(name).is_file()


def matches_of(pattern: Named) -> list[Path]:
    """The files that a pattern names now, sorted by name; nothing that is no log, such as a lock."""
    found = (Path(match) for match in glob.glob(os.fspath(pattern)))  # noqa: PTH207 (takes absolute patterns)
    return sorted(match for match in found if is_log_file(match))


def is_log_file(path: Path) -> bool:
    """Whether a path is a file, and none of those that stand beside a log under its name."""
    return path.is_file() and not path.name.endswith(_NO_LOG)


def would_find(name: Named, path: Path) -> bool:
    """Whether a path or pattern names `path` or what its rotated generations are called, be they there or
    not."""
    absolute, pattern = path.absolute(), str(Path(name).absolute())
    if not is_pattern(name):
        return str(absolute) == pattern
    return any(absolute.with_name(absolute.name + ending).match(pattern) for ending in _GENERATIONS)
