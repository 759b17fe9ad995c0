"""The admission lock: one holder among threads, processes and forks, freed when its holder dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from llmscope.event_log import AdmissionLock

ROOT = Path(__file__).parents[3]
PROCESSES, STEPS = 4, 300
COUNT_UP = """
    import sys
    from pathlib import Path
    from llmscope.event_log import AdmissionLock
    counter, lock = Path(sys.argv[1]), AdmissionLock(sys.argv[1] + ".lock")
    for _ in range(int(sys.argv[2])):
        assert lock.acquire(60)
        value = int(counter.read_text())
        counter.write_text(str(value + 1))
        lock.release()
"""
NO_LOCK = "import fcntl; fcntl.flock = lambda fd, operation: None\n"


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def counted(folder: Path, script: str) -> bool:
    """Whether several processes that count up one file together arrive at the sum of their steps."""
    counter = folder / "counter"
    counter.write_text("0")
    processes = [start(script, str(counter), str(STEPS)) for _ in range(PROCESSES)]
    for process in processes:
        process.communicate(timeout=60)
    return all(process.returncode == 0 for process in processes) and counter.read_text() == str(
        PROCESSES * STEPS
    )


def test_processes_take_turns(tmp_path: Path) -> None:
    assert counted(tmp_path, COUNT_UP)
    assert (tmp_path / "counter.lock").read_bytes() == b""


def test_twin_without_the_lock_steps_are_lost(tmp_path: Path) -> None:
    assert not counted(tmp_path, NO_LOCK + textwrap.dedent(COUNT_UP))


def test_threads_take_turns_on_one_lock(tmp_path: Path) -> None:
    lock, total = AdmissionLock(tmp_path / "lock"), [0]

    def count() -> None:
        for _ in range(200):
            assert lock.acquire(30)
            value = total[0]
            total[0] = value + 1
            lock.release()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == [800]


def test_a_second_holder_waits_and_gives_up(tmp_path: Path) -> None:
    first, second = AdmissionLock(tmp_path / "lock"), AdmissionLock(tmp_path / "lock")
    assert first.try_acquire()
    assert not second.try_acquire()
    assert not second.acquire(0.01)
    first.release()
    assert second.acquire(1)
    second.release()


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    holder = start(
        """
        import sys
        from llmscope.event_log import AdmissionLock
        lock = AdmissionLock(sys.argv[1])
        print(lock.try_acquire(), flush=True)
        sys.stdin.read()
        """,
        str(tmp_path / "lock"),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    lock = AdmissionLock(tmp_path / "lock")
    assert not lock.try_acquire()
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=30)
    assert lock.acquire(10)
    lock.release()


def test_a_forked_child_neither_holds_nor_passes_its_parents_lock(tmp_path: Path) -> None:
    forking = start(
        """
        import os, sys
        from llmscope.event_log import AdmissionLock
        lock = AdmissionLock(sys.argv[1])
        assert lock.try_acquire()
        child = os.fork()
        if child == 0:
            os._exit(0 if not lock.try_acquire() else 1)
        excluded = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        lock.release()
        print(excluded, lock.try_acquire())
        """,
        str(tmp_path / "lock"),
    )
    out, err = forking.communicate(timeout=30)
    assert out == "True True\n", err
