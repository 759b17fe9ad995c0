"""A real `dagster dev` on a folder of its own, always ended with everything it started."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from governance_pipeline.dagster_home import open_instance
from governance_pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DAGSTER = Path(sys.executable).with_name("dagster")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def dagster_dev(settings: Settings, output: Path) -> Iterator[str]:
    """`dagster dev -w workspace.yaml` around `settings.home`; yields its address once it serves."""
    open_instance(settings).dispose()
    port = free_port()
    environment = {
        **os.environ,
        "GOVERNANCE_HOME": str(settings.home),
        "DAGSTER_HOME": str(settings.dagster_home.absolute()),
        "PYTHONWARNINGS": "ignore:Function `dev_command` is superseded",
    }
    with output.open("wb") as log:
        process = subprocess.Popen(
            [str(DAGSTER), "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: _serves(address, process), 60, lambda: output.read_text(errors="replace"))
        yield address
    finally:
        _end(process)


def wait_until(
    happened: Callable[[], bool], seconds: float, explain: Callable[[], str], pause: float = 0.25
) -> None:
    """Look until it has happened; what the services said is shown when it does not."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, explain()
        time.sleep(pause)


def _serves(address: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "dagster dev has ended"
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    for sent, patience in ((signal.SIGINT, 15), (signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        try:
            os.killpg(process.pid, sent)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        else:
            break
    try:
        os.killpg(process.pid, signal.SIGKILL)  # whatever of its group outlived it
    except ProcessLookupError:
        return
