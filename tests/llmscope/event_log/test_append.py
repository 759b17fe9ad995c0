"""Appending: whole lines, whatever other writers, rotations, full disks and forks do meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from llmscope.errors import EventLogError, LineTooLong, LogLockTimeout
from llmscope.event_log import MAX_LINE_BYTES, LogTail, LogWriter
from llmscope.event_log._read import FileEnd

ROOT = Path(__file__).parents[3]
PROCESSES, LINES_EACH = 8, 250


def run(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def outcome(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


def test_lines_are_appended_whole_and_the_offset_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "log.jsonl"
    writer = LogWriter(path)
    assert [writer.append(b'{"a":1}'), writer.append(b'{"b":2}')] == [0, 8]
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_a_torn_tail_is_ended_first_so_that_it_stays_one_reject(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"whole":1}\n{"torn":')
    assert LogWriter(path).append(b'{"next":1}') == len(b'{"whole":1}\n{"torn":\n')
    assert path.read_bytes().split(b"\n") == [b'{"whole":1}', b'{"torn":', b'{"next":1}', b""]


def test_twin_without_that_the_next_line_would_be_lost_in_the_torn_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"torn":')
    monkeypatch.setattr(LogWriter, "_write", lambda self, fd, line: os.write(fd, line + b"\n"))
    LogWriter(path).append(b'{"next":1}')
    assert b'{"next":1}' not in path.read_bytes().split(b"\n")


SHORT_WRITE = """
    import resource, signal, sys
    from llmscope.errors import ShortWrite, EventLogError
    from llmscope.event_log import LogWriter
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    writer, seen = LogWriter(sys.argv[1]), []
    for _ in range(4):
        try:
            writer.append(b"x" * 39)
            seen.append("ok")
        except ShortWrite:
            seen.append("short")
        except EventLogError:
            seen.append("full")
    print(",".join(seen))
"""


def test_a_short_write_is_cut_back_and_raised(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert outcome(run(SHORT_WRITE, str(path))) == "ok,ok,short,short"
    assert path.read_bytes() == (b"x" * 39 + b"\n") * 2


def test_twin_without_cutting_back_a_half_line_would_stay(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    without = "import os; os.ftruncate = lambda fd, size: None\n" + textwrap.dedent(SHORT_WRITE)
    assert outcome(run(without, str(path))).startswith("ok,ok,short")
    assert len(path.read_bytes()) == 100


def test_a_rename_between_two_appends_starts_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path)
    writer.append(b"1")
    path.rename(tmp_path / "log.jsonl.1")
    writer.append(b"2")
    assert (path.read_bytes(), (tmp_path / "log.jsonl.1").read_bytes()) == (b"2\n", b"1\n")


def test_a_rename_between_opening_and_locking_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rotated = tmp_path / "log.jsonl", tmp_path / "log.jsonl.1"
    writer, flock, renamed = LogWriter(path), fcntl.flock, []

    def rename_first(fd: int, operation: int) -> None:
        if not renamed:
            renamed.append(path.rename(rotated))
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", rename_first)
    writer.append(b"1")
    assert (path.read_bytes(), rotated.read_bytes()) == (b"1\n", b"")


def test_deletion_and_truncation_lose_only_what_they_destroy(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path)
    writer.append(b"gone")
    path.unlink()
    writer.append(b"kept")
    assert path.read_bytes() == b"kept\n"
    os.truncate(path, 0)
    writer.append(b"after")
    assert path.read_bytes() == b"after\n"


def test_a_line_that_readers_would_reject_is_refused(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log.jsonl")
    with pytest.raises(LineTooLong):
        writer.append(b"x" * MAX_LINE_BYTES)
    with pytest.raises(LineTooLong):
        writer.append_unserialised(b"x" * MAX_LINE_BYTES)
    with pytest.raises(LineTooLong):
        writer.append_serialised(b"x\n" * MAX_LINE_BYTES)
    assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_the_longest_line_goes_behind_a_torn_one_too(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"torn")
    assert LogWriter(tmp_path / "log.jsonl").append(b"x" * (MAX_LINE_BYTES - 1)) == 5


def seen(tail: LogTail) -> FileEnd:
    """What a tail has read to the end of, which is what the writer is told."""
    list(tail.poll())
    assert tail.end is not None
    return tail.end


def test_what_comes_between_a_look_and_the_line_costs_neither(tmp_path: Path) -> None:
    """By somebody without the lock: a line, a torn line, an empty file."""
    path = tmp_path / "log.jsonl"
    writer, stranger, tail = LogWriter(path), LogWriter(path), LogTail(path)
    writer.append_serialised(b"first\n")
    end = seen(tail)
    assert writer.append_serialised(b"second\n", end) == end[1] == 6
    end = seen(tail)
    stranger.append_unserialised(b"stranger")
    assert writer.append_serialised(b"third\n", end) == end[1] + len(b"stranger\n")
    end = seen(tail)
    with path.open("ab") as torn:
        torn.write(b"torn")
    offset = writer.append_serialised(b"fourth\n", end)
    assert path.read_bytes()[offset:] == b"fourth\n"
    assert b"\nfourth\n" in path.read_bytes()
    end = seen(tail)
    os.truncate(path, 0)
    assert writer.append_serialised(b"fifth\n", end) == 0
    assert path.read_bytes() == b"fifth\n"


def test_twin_without_looking_again_the_line_would_be_lost_in_the_torn_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.jsonl"
    writer, tail = LogWriter(path), LogTail(path)
    writer.append_serialised(b"first\n")
    end = seen(tail)
    path.write_bytes(b"first\ntorn")
    monkeypatch.setattr(LogWriter, "_is_torn", lambda self, fd, size: False)
    writer.append_serialised(b"second\n", end)
    assert b"second" not in path.read_bytes().split(b"\n")


def test_a_file_that_ends_within_a_line_has_no_end_to_append_at(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"whole\ntorn")
    tail = LogTail(path)
    list(tail.poll())
    assert tail.end is None
    assert LogWriter(path).append_serialised(b"next\n", tail.end) == len(b"whole\ntorn\n")


def test_a_lock_that_stays_taken_is_given_up_on(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path)
    writer.append(b"1")
    held = os.open(path, os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert writer.try_append(b"2") is None
    with pytest.raises(LogLockTimeout):
        writer.append(b"2", timeout_seconds=0.01)
    writer.append_unserialised(b"3")
    os.close(held)
    assert path.read_bytes() == b"1\n3\n"


def test_a_log_that_cannot_be_opened_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="cannot append to the log"):
        LogWriter(tmp_path).append(b"1")


def test_fsync_writes_the_same(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "log.jsonl", durability="fsync")
    writer.append(b"1")
    assert (tmp_path / "log.jsonl").read_bytes() == b"1\n"


def test_a_forked_child_has_a_lock_of_its_own(tmp_path: Path) -> None:
    script = """
        import fcntl, os, sys
        from llmscope.event_log import LogWriter
        writer = LogWriter(sys.argv[1])
        writer.append(b"parent")
        held = os.open(sys.argv[1], os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            os.close(held)
            excluded = writer._fd is None and writer.try_append(b"child") is None
            os._exit(0 if excluded else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert outcome(run(script, str(tmp_path / "log.jsonl"))) == "0"


def test_threads_of_one_process_never_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = LogWriter(path)

    def write(name: int) -> None:
        for index in range(200):
            writer.append(json.dumps({"writer": name, "index": index}).encode(), timeout_seconds=30)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_nothing_lost(path, writers=4, lines_each=200)


def assert_nothing_lost(path: Path, writers: int, lines_each: int) -> None:
    parsed = [json.loads(line) for line in path.read_bytes().splitlines()]
    seen = sorted((line["writer"], line["index"]) for line in parsed)
    assert seen == [(writer, index) for writer in range(writers) for index in range(lines_each)]


HAMMER = """
    import sys, time
    from llmscope.event_log import LogWriter
    writer, name, count = LogWriter(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()
    for index in range(count):
        padding = "x" * (index % 700)
        writer.append(('{"writer":%s,"index":%d,"padding":"%s"}' % (name, index, padding)).encode(),
                      timeout_seconds=30)
"""
# What an unlocked, buffered writer does: a line goes out in pieces and nobody is excluded meanwhile.
IN_PIECES = """
    import fcntl, os, time
    fcntl.flock = lambda fd, operation: None
    whole = os.write
    def in_pieces(fd, data):
        half = len(data) // 2
        whole(fd, data[:half])
        time.sleep(0)
        return half + whole(fd, data[half:])
    os.write = in_pieces
"""


# Writer 0 rotates the log after every 25th of its lines, while the others write on.
ROTATING = """
    import os, sys
    from llmscope.event_log import LogWriter
    class Rotating(LogWriter):
        lines = 0
        def append(self, line, **options):
            super().append(line, **options)
            self.lines += 1
            if sys.argv[2] == "0" and self.lines % 25 == 0:
                os.rename(self.path, f"{self.path}.{self.lines}")
    sys.modules["llmscope.event_log"].LogWriter = Rotating
"""


def start_hammering(path: Path, writers: int, prefix: str = "") -> list[subprocess.Popen[str]]:
    """`writers` processes that all begin to append at the same time."""
    code = textwrap.dedent(prefix) + textwrap.dedent(HAMMER)
    processes = [run(code, str(path), str(name), str(LINES_EACH)) for name in range(writers)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def test_8_processes_lose_no_line_and_tear_none(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for process in start_hammering(path, PROCESSES):
        outcome(process)
    assert_nothing_lost(path, PROCESSES, LINES_EACH)


def test_twin_without_the_lock_and_the_single_write_lines_tear(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for process in start_hammering(path, PROCESSES, IN_PIECES):
        outcome(process)
    with pytest.raises((AssertionError, ValueError, KeyError, TypeError)):
        assert_nothing_lost(path, PROCESSES, LINES_EACH)


def test_writers_through_rename_rotation_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for process in start_hammering(path, 3, ROTATING):
        outcome(process)
    parts = sorted(tmp_path.glob("log.jsonl*"))
    everything = tmp_path / "everything"
    everything.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(parts) >= LINES_EACH // 25
    assert_nothing_lost(everything, 3, LINES_EACH)
