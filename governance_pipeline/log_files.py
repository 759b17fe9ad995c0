"""Which files a log consists of: by path, with its rotated generations, or by pattern.

What does not belong here: reading lines (`ingest`, `freshness`), and knowing a file by its content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from llmscope.event_log import rotated_siblings
from llmscope.log_names import Named, is_log_file, is_pattern, matches_of, names_a_path

_GZIP_MAGIC = b"\x1f\x8b"
# Generations of a log, as rotation names them.
_GENERATION = re.compile(r"[.-]\d[\dTZ:._-]*$")

Log = Literal["telemetry", "decisions"]


def find_log_files(named: Sequence[Named], *, siblings: bool = True) -> list[Path]:
    """The log files that paths and patterns name (see `llmscope.log_names`), oldest first, each once; missing
    ones are no files.

    Args:
        siblings: whether a path also names its rotated generations (`<path>.*`, gzip too).
    """
    found: dict[Path, Path] = {}
    for name in named:
        if names_a_path(name):
            path = Path(name)
            matches = [path, *(rotated_siblings(path) if siblings else [])]
        else:
            matches = matches_of(name)
        for match in matches:
            if is_log_file(match):
                found.setdefault(match.absolute(), match)
    return sorted(found.values(), key=_modified)


def rotated_files(named: Sequence[Named]) -> list[Path]:
    """Those of `find_log_files` that nobody writes any more: compressed ones, generations of a named path
    (`<path>.*`), and what a pattern matched as a numbered or dated generation of another file that it matched
    (`batch.jsonl.1` beside `batch.jsonl`)."""
    found = find_log_files(named)
    paths = [Path(name).absolute() for name in named if not is_pattern(name)]
    generations = {sibling.absolute() for path in paths for sibling in rotated_siblings(path)}
    matched = {str(path) for path in found}
    return [
        path
        for path in found
        if is_compressed(path)
        or path.absolute() in generations
        or _GENERATION.sub("", str(path)) in matched - {str(path)}
    ]


def is_compressed(path: Path) -> bool:
    """Whether a file is gzip, by its first bytes; one that has gone is not."""
    try:
        with path.open("rb") as file:
            return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    except FileNotFoundError:
        return False


def _modified(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, str(path)
    except FileNotFoundError:
        return 0, str(path)
