"""Running the `governance` command in this process, and a home folder of its own to run it in."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from governance_pipeline.cli import main
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import settings_in


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def run_command(capsys: pytest.CaptureFixture[str], *arguments: str) -> Said:
    """`governance <arguments>`; whatever happens, without a traceback."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    captured = capsys.readouterr()
    code = left.value.code
    assert isinstance(code, int)
    assert "Traceback" not in captured.err
    return Said(code, captured.out, captured.err)


def settings_of_an_empty_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that a command finds when it runs in `folder`; there are no logs yet."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GOVERNANCE_HOME", "home")
    for variable in ("TELEMETRY_PATH", "LLMSCOPE_TELEMETRY_PATH", "DECISIONS_PATH", "WAREHOUSE_PATH"):
        monkeypatch.delenv(variable, raising=False)
    made = settings_in(folder / "home")
    made.telemetry_path.parent.mkdir(parents=True)
    return made
