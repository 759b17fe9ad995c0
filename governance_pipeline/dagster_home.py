"""Dagster's own folder, `$GOVERNANCE_HOME/dagster`: made once, shared by `make dev` and `governance
materialize`, and mended when a run was killed.

Run as a module it prepares the folder and prints its path (`make dev` sets `DAGSTER_HOME` to it).

What does not belong here: what Dagster runs (`definitions`).
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from governance_pipeline.settings import Settings
from llmscope.event_log import AdmissionLock

if TYPE_CHECKING:
    from dagster import DagsterInstance

# Which process executes a run, so that a killed one can be told from a slow one.
PROCESS_TAG = "governance/process"
_TEMPLATE = Path(__file__).with_name("dagster.yaml")
# Creating the instance's tables takes a second or two; a second process waits for it rather than collide.
_LOCK_TIMEOUT_SECONDS = 60.0
# A run names its process when its resources are set up, before any step: within a second of its start.
_NAMELESS_SECONDS = 120.0


def prepare(settings: Settings) -> Path:
    """Make the folder with our dagster.yaml, unless it is there; returns its absolute path."""
    home = settings.dagster_home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_bytes(_TEMPLATE.read_bytes())
    return home


def open_instance(settings: Settings) -> DagsterInstance:
    """The shared instance, its tables created and runs of dead processes ended.

    Two processes that create one fresh instance at the same time would crash one another: a lock beside
    the folder lets one go first.

    Raises:
        TimeoutError: another process has been creating the instance for a minute.
    """
    from dagster import DagsterInstance  # noqa: PLC0415  (a second of imports, only where runs are executed)

    home = prepare(settings)
    lock = AdmissionLock(home.with_name(home.name + ".lock"))
    if not lock.acquire(_LOCK_TIMEOUT_SECONDS):
        raise TimeoutError(f"{home}: another process has been preparing it for {_LOCK_TIMEOUT_SECONDS:g} s")
    try:
        instance = DagsterInstance.from_config(str(home))
        instance.get_runs(limit=1)
    finally:
        lock.release()
        lock.close()
    end_dead_runs(instance)
    return instance


def process_identity() -> str:
    """This process, told apart from a later one with the same number."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started_at(os.getpid())}"


def end_dead_runs(instance: DagsterInstance, *, now_seconds: float | None = None) -> list[str]:
    """Report runs as failed whose process on this machine has died, and free the pool slots they held.

    Without this a run that was killed keeps the warehouse's pool for hours. A run that has not said for
    two minutes after its start which process it is died before its resources were there.

    Args:
        instance: the shared instance.
        now_seconds: seconds since 1970, by default now.

    Returns:
        The runs' ids.
    """
    from dagster import DagsterRunStatus, RunsFilter  # noqa: PLC0415

    now_seconds = time.time() if now_seconds is None else now_seconds
    ended = []
    in_progress = RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING])
    for record in instance.get_run_records(in_progress):
        run = record.dagster_run
        identity = run.tags.get(PROCESS_TAG)
        if identity is None:
            began = record.start_time or record.create_timestamp.timestamp()
            if now_seconds - began < _NAMELESS_SECONDS:
                continue
        elif _is_alive(identity):
            continue
        instance.report_run_failed(run, "its process died before it ended")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    return ended


def _is_alive(identity: str) -> bool:
    host, pid, started = identity.rsplit(":", 2)
    if host != socket.gethostname():
        return True  # not ours to judge; run monitoring's time limit is
    return pid.isdecimal() and _started_at(int(pid)) == started


def _started_at(pid: int) -> str:
    """When a process began, in the kernel's ticks since boot; `gone` for one that does not run.

    Where there is no /proc the number alone has to do.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return "gone"
        except PermissionError:
            return "running"
        return "running"
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    fields = stat.rpartition(")")[2].split()
    return "gone" if fields[0] == "Z" else fields[19]


def main() -> None:
    """Prepare the folder, create the instance's tables, and print the path."""
    settings = Settings.from_environment()
    open_instance(settings).dispose()
    print(settings.dagster_home.absolute())


if __name__ == "__main__":
    main()
