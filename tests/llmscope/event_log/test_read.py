"""Reading: whole lines exactly once, through rotation, truncation and deletion."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import pytest

from llmscope.event_log import (
    LogTail,
    LogWriter,
    Position,
    fingerprint_of,
    iter_lines,
    open_log,
    rotated_siblings,
)
from llmscope.event_log import _read as read_module


def lines(tail: LogTail) -> list[bytes]:
    return [line for chunk in tail.poll() for _, line in iter_lines(chunk.data, chunk.offset)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_each_line_is_read_once(path: Path) -> None:
    tail, writer = LogTail(path), LogWriter(path)
    assert lines(tail) == []
    writer.append(b"1")
    writer.append(b"2")
    assert lines(tail) == [b"1", b"2"]
    assert lines(tail) == []
    writer.append(b"3")
    assert lines(tail) == [b"3"]


def test_an_unterminated_tail_is_pending_until_its_newline(path: Path) -> None:
    tail = LogTail(path)
    path.write_bytes(b"1\nhal")
    assert lines(tail) == [b"1"]
    with path.open("ab") as log:
        log.write(b"f\n")
    assert lines(tail) == [b"half"]


def test_rename_rotation_loses_and_doubles_nothing(path: Path) -> None:
    tail, writer = LogTail(path), LogWriter(path)
    writer.append(b"1")
    assert lines(tail) == [b"1"]
    writer.append(b"2")
    path.rename(path.with_suffix(".jsonl.1"))
    writer.append(b"3")
    assert lines(tail) == [b"2", b"3"]
    assert lines(tail) == []


def test_copy_truncate_restarts_at_the_beginning(path: Path) -> None:
    tail, writer = LogTail(path), LogWriter(path)
    writer.append(b"a long first line")
    assert lines(tail) == [b"a long first line"]
    os.truncate(path, 0)
    writer.append(b"new")
    assert lines(tail) == [b"new"]
    assert tail.source == 2


def regrown_past_the_offset(path: Path) -> list[bytes]:
    tail = LogTail(path)
    path.write_bytes(b"old line 1\nold line 2\n")
    lines(tail)
    with path.open("r+b") as log:  # the same inode, truncated and grown further than was read
        log.truncate()
        log.write(b"new line 1\nnew line 2\nnew line 3\n")
    return lines(tail)


def test_copy_truncate_is_noticed_even_when_regrown_past_the_offset(path: Path) -> None:
    assert regrown_past_the_offset(path) == [b"new line 1", b"new line 2", b"new line 3"]


def test_twin_without_comparing_what_was_read_before_two_lines_would_be_lost(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_module, "_OVERLAP_BYTES", 0)
    monkeypatch.setattr(LogTail, "_restart", lambda self, log: None)
    assert len(regrown_past_the_offset(path)) < 3


def test_deletion_loses_only_what_was_not_in_a_file_any_more(path: Path) -> None:
    tail, writer = LogTail(path), LogWriter(path)
    writer.append(b"1")
    lines(tail)
    writer.append(b"2")
    path.unlink()
    assert lines(tail) == [b"2"]
    writer.append(b"3")
    assert lines(tail) == [b"3"]


def test_what_this_process_appended_itself_can_be_skipped(path: Path) -> None:
    tail, writer = LogTail(path), LogWriter(path)
    writer.append(b"1")
    lines(tail)
    assert tail.skip_own(writer.append(b"own"), b"own\n")
    writer.append(b"other")
    assert lines(tail) == [b"other"]
    assert not tail.skip_own(0, b"elsewhere\n")


def test_seek_continues_where_a_line_begins(path: Path) -> None:
    path.write_bytes(b"1\n22\n333\n")
    tail = LogTail(path)
    tail.seek(2)
    assert lines(tail) == [b"22", b"333"]
    assert tail.position == Position(str(fingerprint_of(path.read_bytes())), 9)


def test_a_backlog_larger_than_a_chunk_is_read_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "CHUNK_BYTES", 64)
    expected = [b"line %d" % index for index in range(100)]
    path.write_bytes(b"\n".join(expected) + b"\n")
    assert lines(LogTail(path)) == expected


def test_a_line_longer_than_a_chunk_is_passed_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_module, "CHUNK_BYTES", 64)
    path.write_bytes(b"1\n" + b"x" * 300 + b"\n2\n")
    tail = LogTail(path)
    seen = lines(tail)
    seen += lines(tail)
    assert seen == [b"1", b"2"]


def test_a_fingerprint_is_of_the_first_kilobyte_and_keeps_its_length() -> None:
    short, long = b"abc", b"x" * 5000
    assert fingerprint_of(short) == (hashlib.sha256(short).hexdigest(), 3)
    assert fingerprint_of(long) == fingerprint_of(long[:1024])
    assert fingerprint_of(long[:1023]) != fingerprint_of(long)


def test_gzip_is_told_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "named.jsonl").write_bytes(gzip.compress(b"1\n"))
    (tmp_path / "plain.gz").write_bytes(b"2\n")
    for name, content in (("named.jsonl", b"1\n"), ("plain.gz", b"2\n")):
        with open_log(tmp_path / name) as log:
            assert log.read() == content


def test_lines_know_their_offsets() -> None:
    assert list(iter_lines(b"a\n\nbc\nd", 10)) == [(10, b"a"), (12, b""), (13, b"bc"), (16, b"d")]


def test_rotated_siblings_come_newest_first_and_leave_the_lock_out(path: Path) -> None:
    for age, name in enumerate(["log.jsonl.1", "log.jsonl.2.gz", "log.jsonl.lock", "other.jsonl.1"]):
        sibling = path.with_name(name)
        sibling.touch()
        os.utime(sibling, (1000 - age, 1000 - age))
    assert [sibling.name for sibling in rotated_siblings(path)] == ["log.jsonl.1", "log.jsonl.2.gz"]
    assert rotated_siblings("/nowhere/at/all.jsonl") == []
