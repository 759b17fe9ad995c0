"""Which files a log consists of: by path, with its rotated generations, or by pattern.

What does not belong here: reading lines (`ingest`, `freshness`), and knowing a file by its content.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from llmscope.event_log import rotated_siblings

_PATTERN_CHARACTERS = "*?["
_GZIP_MAGIC = b"\x1f\x8b"
# What a log may have beside it under such a name without being a part of it.
_NO_LOG = (".lock", ".checkpoint", ".checkpoint.new")
# Generations of a log, as rotation names them.
_GENERATION = re.compile(r"[.-]\d[\dTZ:._-]*$")
_GENERATIONS = ("", ".1", ".1.gz", ".gz")

Log = Literal["telemetry", "decisions"]
Named = str | os.PathLike[str]


def find_log_files(named: Sequence[Named], *, siblings: bool = True) -> list[Path]:
    """The log files that paths and patterns name, oldest first, each once; missing ones are no files.

    A name that is a file, or holds none of `*?[`, is a path; anything else is a pattern, in which `**` means
    no more than `*`.

    Args:
        siblings: whether a path also names its rotated generations (`<path>.*`, gzip too).
    """
    found: dict[Path, Path] = {}
    for name in named:
        path = Path(name)
        if path.is_file() or not is_pattern(name):
            matches = [path, *(rotated_siblings(path) if siblings else [])]
        else:
            matches = [Path(match) for match in glob.glob(os.fspath(name))]  # noqa: PTH207 (takes absolute patterns)
        for match in matches:
            if match.is_file() and not match.name.endswith(_NO_LOG):
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


def is_pattern(name: Named) -> bool:
    """Whether a name holds characters that make it a pattern."""
    return any(character in os.fspath(name) for character in _PATTERN_CHARACTERS)


def would_find(name: Named, path: Path) -> bool:
    """Whether a path or pattern names `path` or what its rotated generations are called, be they there or
    not."""
    absolute, pattern = path.absolute(), str(Path(name).absolute())
    if not is_pattern(name):
        return str(absolute) == pattern
    return any(absolute.with_name(absolute.name + ending).match(pattern) for ending in _GENERATIONS)


def _modified(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, str(path)
    except FileNotFoundError:
        return 0, str(path)
