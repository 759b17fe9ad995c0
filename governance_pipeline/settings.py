"""Where the pipeline reads and writes, decided once at the edge.

An explicit argument beats the environment beats the default. What does not belong here: how any of
these files is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from llmscope.settings import home_from
from policy_runtime.errors import SettingsError
from policy_runtime.settings import Settings as GateSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """What the pipeline takes from its surroundings.

    Attributes:
        home: the folder of everything below that is not named on its own.
        telemetry_path: the log of bills; its rotated generations (`<path>.*`) belong to it.
        decisions_path: the log of decisions, likewise.
        policy_path: the policy in force, None without one; only its hash is recorded with the answers.
        economics_path: revenue and experiment controls, None without them.
        warehouse_path: the DuckDB file; one process at a time has it open.
        answers_path: the folder that readers read.
        alerts_path: the log of alerts.
        sinks_path: `alerts.yaml`, where alerts go besides the log; None without it.
    """

    home: Path
    telemetry_path: Path
    decisions_path: Path
    policy_path: Path | None
    economics_path: Path | None
    warehouse_path: Path
    answers_path: Path
    alerts_path: Path
    sinks_path: Path | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment, once.

        Raises:
            policy_runtime.errors.SettingsError: `POLICY_PATH`, `ECONOMICS_PATH` or `ALERT_SINKS_PATH` names a
                file that is not there.
            llmscope.errors.ConfigurationError: two variables name different telemetry logs.
        """
        environ = os.environ if environ is None else environ
        gate = GateSettings.from_environment(environ)
        return cls.in_home(
            home_from(environ),
            telemetry_path=gate.telemetry_path,
            decisions_path=gate.decisions_path,
            policy_path=gate.policy_path,
            economics_path=_optional_file(environ, "ECONOMICS_PATH", "economics.yaml"),
            warehouse_path=_path(environ, "WAREHOUSE_PATH"),
            alerts_path=_path(environ, "ALERTS_PATH"),
            sinks_path=_optional_file(environ, "ALERT_SINKS_PATH", "alerts.yaml"),
        )

    @classmethod
    def in_home(
        cls,
        home: str | os.PathLike[str],
        *,
        telemetry_path: Path | None = None,
        decisions_path: Path | None = None,
        policy_path: Path | None = None,
        economics_path: Path | None = None,
        warehouse_path: Path | None = None,
        alerts_path: Path | None = None,
        sinks_path: Path | None = None,
    ) -> Settings:
        """The default places inside `home`; what is given explicitly stands."""
        home = Path(home)
        logs = home / "logs"
        return cls(
            home=home,
            telemetry_path=telemetry_path or logs / "telemetry.jsonl",
            decisions_path=decisions_path or logs / "policy_decisions.jsonl",
            policy_path=policy_path,
            economics_path=economics_path,
            warehouse_path=warehouse_path or home / "governance.duckdb",
            answers_path=home / "answers",
            alerts_path=alerts_path or logs / "alerts.jsonl",
            sinks_path=sinks_path,
        )

    def with_warehouse(self, warehouse_path: Path) -> Settings:
        """The same surroundings around another warehouse file."""
        return replace(self, warehouse_path=warehouse_path)

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its runs and events."""
        return self.home / "dagster"


def _path(environ: Mapping[str, str], variable: str) -> Path | None:
    named = environ.get(variable)
    return Path(named) if named else None


def _optional_file(environ: Mapping[str, str], variable: str, default: str) -> Path | None:
    named = environ.get(variable)
    if named and not Path(named).is_file():
        raise SettingsError(f"{variable} is {named!r}, but there is no such file")
    path = Path(named or default)
    return path if path.is_file() else None
