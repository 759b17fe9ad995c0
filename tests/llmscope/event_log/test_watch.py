"""A watch over logs: quiet while nothing happens to them, and never quiet when something has."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmscope.event_log import LogTail, LogWatch, LogWriter
from llmscope.event_log import _watch as watch_module

LONG_AGO_NS = 1_700_000_000_123_456_789


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seen is seen by its traces: no look by path becomes due on a slow machine."""
    monkeypatch.setattr(watch_module, "_LOOK_SECONDS", 3600.0)


class Logs:
    """Two logs in a folder that was changed long ago, their tails and the watch over both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.log, self.other = folder / "log.jsonl", folder / "other.jsonl"
        for path in (self.log, self.other):
            LogWriter(path).append(b"first")
        self.tails = [LogTail(self.other), LogTail(self.log)]
        self.watch = LogWatch(self.tails)

    def age(self, at_ns: int = LONG_AGO_NS) -> None:
        os.utime(self.folder, ns=(at_ns, at_ns))

    def look(self) -> list[bytes]:
        """What the tails bring, polled only when the watch is not quiet."""
        if self.watch.is_quiet():
            return []
        self.watch.before_polls()
        read = [chunk.data for tail in self.tails for chunk in tail.poll()]
        for tail in self.tails:
            tail.left = []
        self.watch.after_polls()
        return read


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    logs = Logs(tmp_path / "logs")
    logs.age()
    logs.look()
    assert logs.watch.is_quiet()
    return logs


def renamed(path: Path) -> None:
    path.rename(f"{path}.1")


def renamed_and_followed(path: Path) -> None:
    path.rename(f"{path}.1")
    path.write_bytes(b"other\n")


def replaced(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(b"other\n")
    new.rename(path)


def removed(path: Path) -> None:
    path.unlink()


def removed_and_created(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"other\n")


def moved_to_another_folder(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere.jsonl")


def truncated(path: Path) -> None:
    os.truncate(path, 0)


def appended(path: Path) -> None:
    LogWriter(path).append(b"other")


CHANGES_OF_THE_FOLDER = [
    renamed, renamed_and_followed, replaced, removed, removed_and_created, moved_to_another_folder
]  # fmt: skip


@pytest.mark.parametrize("name", ["log", "other"])
@pytest.mark.parametrize("change", [*CHANGES_OF_THE_FOLDER, truncated, appended])
def test_whatever_happens_to_a_log_is_seen_at_once(
    logs: Logs, change: Callable[[Path], None], name: str
) -> None:
    path = getattr(logs, name)
    change(path)
    assert not logs.watch.is_quiet()
    assert logs.look() == ([b"other\n"] if path.exists() and path.stat().st_size else [])


@pytest.mark.parametrize("change", CHANGES_OF_THE_FOLDER)
def test_twin_by_its_length_alone_a_log_that_was_moved_is_quiet(
    logs: Logs, change: Callable[[Path], None]
) -> None:
    change(logs.log)
    logs.age()  # what a watch without the folder's stamp would see
    assert logs.watch.is_quiet()


def test_a_log_that_grows_asks_for_polls_and_no_new_stamp(logs: Logs) -> None:
    for _ in range(3):
        LogWriter(logs.log).append(b"more")
        assert logs.look() == [b"more\n"]
        assert logs.watch.is_quiet()


def test_a_folder_changed_just_now_is_not_trusted(logs: Logs) -> None:
    """Another change might bear the same stamp."""
    logs.age(time.time_ns() + 10**9 | 1)
    for _ in range(3):
        logs.look()
        assert not logs.watch.is_quiet()
    logs.age()
    logs.look()
    assert logs.watch.is_quiet()


def test_a_stamp_in_whole_seconds_is_not_trusted(logs: Logs) -> None:
    logs.age(LONG_AGO_NS // 10**9 * 10**9)
    logs.look()
    logs.look()
    assert not logs.watch.is_quiet()


def test_a_log_that_is_a_link_is_looked_at_by_path(tmp_path: Path) -> None:
    real = Logs(tmp_path / "real")
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("log.jsonl", "other.jsonl"):
        (linked / name).symlink_to(tmp_path / "real" / name)
    logs = Logs(linked)
    for each in (real, logs):
        each.age()
    logs.look()
    assert not logs.watch.is_quiet()


def test_a_look_by_path_is_not_put_off_for_long(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what leaves no trace in the folder, such as another folder in its place, is seen."""
    monkeypatch.setattr(watch_module, "_LOOK_SECONDS", 0.0)
    logs.watch.close()
    logs.look()
    assert not logs.watch.is_quiet()
    logs.folder.rename(logs.folder.with_name("old"))
    Logs(logs.folder).age()
    assert logs.look() == [b"first\n", b"first\n"]


def test_twin_without_that_look_another_folder_would_go_unseen(logs: Logs) -> None:
    logs.folder.rename(logs.folder.with_name("old"))
    Logs(logs.folder).age()
    assert logs.look() == []


def test_a_missing_folder_is_nothing_to_be_quiet_about(tmp_path: Path) -> None:
    watch = LogWatch([LogTail(tmp_path / "none" / "log.jsonl")])
    watch.before_polls()
    watch.after_polls()
    assert not watch.is_quiet()
