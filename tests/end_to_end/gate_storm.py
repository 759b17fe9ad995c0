"""Gates admitting and settling in several forked processes while something happens to them or their logs.

Run as a script by the `test_gate_*` files: `python -m tests.end_to_end.gate_storm FOLDER OPTIONS` with
OPTIONS a JSON object (see `Options`). What was done to the logs is judged from the files afterwards
(`gate_evidence`): each worker notes in a file of its own what it was told, after it was told.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope.event_log import AdmissionLock
from policy_runtime import PolicyDenied, PolicyRuntime

TTL_SECONDS = 1.0
LIMIT_USD = 0.006
POLICY = f"""\
reservation_ttl_seconds: {TTL_SECONDS}
lock_timeout_seconds: 30.0
namespaces:
  default:
    rules:
      - {{id: cap, primitive: budget_threshold, period: daily, limit_usd: {LIMIT_USD}, action: deny}}
"""
LOGS = ("t.jsonl", "d.jsonl")


@dataclass(frozen=True)
class Options:
    """What to do.

    Attributes:
        disturbance: kill, rename, gzip, copy_truncate or delete.
        rounds: how often.
        workers: processes at any time.
        seed: of all chance.
        broken: the safeguard that is taken away: nothing, torn_tail, whole_write.
    """

    disturbance: str
    rounds: int
    workers: int = 4
    seed: int = 1
    broken: str = "nothing"


def gate_in(folder: Path, **options: Any) -> PolicyRuntime:
    return PolicyRuntime(
        folder / "policy.yaml",
        telemetry_path=folder / "t.jsonl",
        decisions_path=folder / "d.jsonl",
        **options,
    )


def work(folder: Path, name: str, seed: int, dies_writing: bool, broken: str) -> None:
    """Admit and settle until told to stop, noting every answer after it came."""
    rng = random.Random(seed)
    break_on_purpose(broken)
    if dies_writing:
        die_in_the_middle_of_a_line(after_writes=rng.randrange(1, 12))
    notes = os.open(folder / f"notes-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    gate = gate_in(folder)
    held: list[Any] = []
    stop = folder / "stop"
    while not stop.exists():
        if held and rng.random() < 0.5:
            settle(held.pop(rng.randrange(len(held))), rng, notes)
            continue
        ask = gate.admit(
            route_name="/answer-routed",
            model_tier="expensive",
            tokens_in=rng.randrange(20, 200),
            max_output_tokens=60,
        )
        try:
            admission = ask.__enter__()
        except PolicyDenied as denied:
            NOTE(notes, f"denied {denied.record.request_id}\n".encode())
            if held:
                settle(held.pop(), rng, notes)
            time.sleep(0.002)
            continue
        NOTE(notes, f"admitted {admission.request_id}\n".encode())
        held.append(admission)
    for admission in held:
        settle(admission, rng, notes)


def settle(admission: Any, rng: random.Random, notes: int) -> None:
    nano = rng.randrange(1, 200)
    admission.settle(cost_usd=nano / 1e9)
    NOTE(notes, f"settled {admission.request_id} {nano}\n".encode())


NOTE = os.write


def die_in_the_middle_of_a_line(after_writes: int) -> None:
    """Kill this process when half of its nth line is in the file."""
    whole, left = os.write, [after_writes]

    def half(fd: int, data: bytes) -> int:
        left[0] -= 1
        if left[0] > 0:
            return whole(fd, data)
        whole(fd, data[: max(1, len(data) // 2)])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    os.write = half  # type: ignore[assignment]


def break_on_purpose(what: str) -> None:
    """Take one safeguard away."""
    if what == "torn_tail":
        from llmscope.event_log import LogWriter

        def without_ending_the_torn_line(self: Any, fd: int, line: bytes) -> int:
            os.write(fd, line + b"\n")
            return os.fstat(fd).st_size - len(line) - 1

        LogWriter._write = without_ending_the_torn_line  # type: ignore[method-assign]
    elif what == "whole_write":
        import fcntl

        whole = os.write

        def in_pieces(fd: int, data: bytes) -> int:
            half = len(data) // 2
            written = whole(fd, data[:half])
            time.sleep(0.0005)
            return written + whole(fd, data[half:])

        os.write = in_pieces  # type: ignore[assignment]
        fcntl.flock = lambda fd, operation: None  # type: ignore[assignment]


class Storm:
    """The parent: starts workers, disturbs, and stops."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.rng = random.Random(options.seed)
        self.started = 0
        self.rotated = 0
        self.workers: dict[int, bool] = {}

    def start_worker(self) -> None:
        dies_writing = self.options.disturbance == "kill" and self.rng.random() < 0.4
        self.started += 1
        number, seed = self.started, self.rng.randrange(1 << 30)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(self.folder, str(number), seed, dies_writing, self.options.broken)
                status = 0
            finally:
                sys.stderr.flush()
                if status:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(status)
        self.workers[pid] = dies_writing

    def run(self) -> dict[str, int]:
        """Disturb for as many rounds as asked; how many workers died writing and how many failed."""
        gate_in(self.folder).close()  # what the first gate imports, the workers have from here
        torn = failed = 0
        for number in range(self.options.rounds):
            while len(self.workers) < self.options.workers:
                self.start_worker()
            if self.options.disturbance != "kill" and (number == 0 or self.options.disturbance == "delete"):
                self.wait_until_all_have_looked()
            time.sleep(self.rng.uniform(0.002, 0.08))
            if self.options.disturbance == "kill":
                os.kill(self.rng.choice(list(self.workers)), signal.SIGKILL)
            else:
                self.rotate(self.rng.choice(LOGS))
            ended = self.reap(wait=self.options.disturbance == "kill")
            torn += sum(1 for dies_writing, status in ended if dies_writing and status == -signal.SIGKILL)
            failed += sum(1 for _, status in ended if status not in (0, -signal.SIGKILL))
        (self.folder / "stop").touch()
        for pid, dies_writing in self.workers.items():
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            torn += dies_writing and status == -signal.SIGKILL
            failed += status not in (0, -signal.SIGKILL)
        return {"died_writing": torn, "failed": failed, "started": self.started, "rotated": self.rotated}

    def wait_until_all_have_looked(self) -> None:
        """Until each worker has decided again: nobody can hold to what was destroyed before they looked."""
        before = self.decided()
        while any(count <= before[worker] for worker, count in self.decided().items()):
            time.sleep(0.001)

    def decided(self) -> dict[int, int]:
        """How many decisions each worker that was started has noted."""
        notes = {number: self.folder / f"notes-{number}" for number in range(1, self.started + 1)}
        return {
            number: path.read_text().count("admitted") + path.read_text().count("denied")
            if path.exists()
            else 0
            for number, path in notes.items()
        }

    def reap(self, *, wait: bool) -> list[tuple[bool, int]]:
        """(meant to die writing, status) of the workers that have ended; with `wait`, at least one."""
        ended = []
        pid, status = os.waitpid(-1, 0 if wait else os.WNOHANG)
        while pid:
            ended.append((self.workers.pop(pid), os.waitstatus_to_exitcode(status)))
            if not self.workers:
                break
            pid, status = os.waitpid(-1, os.WNOHANG)
        return ended

    def rotate(self, name: str) -> None:
        """Do to a log what rotation does. Workers stand still where the way to rotate destroys what is
        written meanwhile, so that nothing is destroyed but what is meant to be."""
        log = self.folder / name
        if not log.exists():
            return
        self.rotated += 1
        sibling = log.with_name(f"{name}.{self.rotated:04}")
        how = self.options.disturbance
        if how in ("rename", "gzip"):
            log.rename(sibling)
            if how == "gzip":
                time.sleep(0.05)  # as logrotate's delaycompress: whoever has it open is done with it
                with sibling.open("rb") as plain, gzip.open(f"{sibling}.gz", "wb") as packed:
                    shutil.copyfileobj(plain, packed)
                sibling.unlink()
            return
        if how == "delete":
            self.delete(log, sibling.name)
            return
        for pid in self.workers:
            os.kill(pid, signal.SIGSTOP)
            os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        shutil.copyfile(log, sibling)
        os.truncate(log, 0)
        for pid in self.workers:
            os.kill(pid, signal.SIGCONT)

    def delete(self, log: Path, name: str) -> None:
        """Delete a log while nobody is about to write to it, keeping a copy where no gate looks."""
        lock = AdmissionLock(self.folder / "d.jsonl.lock")
        assert lock.acquire(60)
        with log.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            (self.folder / "destroyed").mkdir(exist_ok=True)
            shutil.copyfile(log, self.folder / "destroyed" / name)
            log.unlink()
        lock.release()
        lock.close()


def main() -> None:
    folder, options = Path(sys.argv[1]), Options(**json.loads(sys.argv[2]))
    (folder / "policy.yaml").write_text(POLICY)
    print(json.dumps(Storm(folder, options).run()))


if __name__ == "__main__":
    main()
