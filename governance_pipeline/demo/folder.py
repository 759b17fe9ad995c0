"""The demo's folder: which files it holds, and that only a folder of its own is ever replaced."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from governance_pipeline.demo.errors import ForeignFolderError

_MARKER = ".governance-demo"
_MARKER_TEXT = "`governance demo` made this folder and replaces it at each run.\n"


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """Where the demo's files lie; `home` is what GOVERNANCE_HOME must be to look at them afterwards."""

    home: Path

    @property
    def telemetry(self) -> Path:
        """The log of what was called."""
        return self.home / "logs" / "telemetry.jsonl"

    @property
    def decisions(self) -> Path:
        """The log of what was decided."""
        return self.home / "logs" / "policy_decisions.jsonl"

    @property
    def alerts(self) -> Path:
        """The log of alerts."""
        return self.home / "logs" / "alerts.jsonl"

    @property
    def policy(self) -> Path:
        """The story's policy file."""
        return self.home / "policy.yaml"

    @property
    def economics(self) -> Path:
        """The story's revenue and experiment controls."""
        return self.home / "economics.yaml"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        return self.home / "governance.duckdb"

    @property
    def answers(self) -> Path:
        """The published answers."""
        return self.home / "answers"

    def environment(self) -> dict[str, str]:
        """The variables under which every command looks at the demo's data."""
        return {
            "GOVERNANCE_HOME": str(self.home),
            "POLICY_PATH": str(self.policy),
            "ECONOMICS_PATH": str(self.economics),
        }


def fresh_folder(home: Path) -> DemoFiles:
    """Make `home` an empty demo folder, replacing what an earlier demo left there.

    Raises:
        ForeignFolderError: `home` is a file, a link, or a folder with something in it that no demo wrote.
    """
    if home.is_symlink() or (home.exists() and not home.is_dir()):
        raise ForeignFolderError(f"{home} is not a folder: move it away, or set GOVERNANCE_HOME elsewhere")
    if home.is_dir() and any(home.iterdir()):
        if not (home / _MARKER).is_file():
            raise ForeignFolderError(
                f"{home} holds files that `governance demo` did not write, so it is left alone: "
                "move it away, or set GOVERNANCE_HOME elsewhere"
            )
        shutil.rmtree(home)
    (home / "logs").mkdir(parents=True, exist_ok=True)
    (home / _MARKER).write_text(_MARKER_TEXT, encoding="utf-8")
    return DemoFiles(home)
