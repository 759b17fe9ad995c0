"""Where the pipeline reads and writes, decided once at the edge.

An explicit argument beats the environment beats the default. What does not belong here: how any of
these files is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from governance_pipeline.log_files import Log
from llmscope.log_names import Named, names_in, would_find
from llmscope.settings import home_from
from policy_runtime.errors import SettingsError
from policy_runtime.settings import Settings as GateSettings

# A million requests with their decisions are folded from the start in as much, with a detour through the disk
# in one join; without a limit DuckDB would take four fifths of the machine.
DEFAULT_WAREHOUSE_MEMORY_MB = 1024
_LEAST_WAREHOUSE_MEMORY_MB = 64


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
        evaluation_path: `evaluation.yaml`, the suites and what is sampled of production; None without it.
        telemetry_globs: further telemetry files, by path or pattern: of programs that do not take the log's
            lock and keep a file of their own, or of other machines.
        decisions_globs: further decision logs, likewise.
        warehouse_memory_mb: how much memory DuckDB may take for a refresh or a rebuild; what needs more goes
            through a folder beside the warehouse.
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
    evaluation_path: Path | None = None
    telemetry_globs: tuple[str, ...] = ()
    decisions_globs: tuple[str, ...] = ()
    warehouse_memory_mb: int = DEFAULT_WAREHOUSE_MEMORY_MB

    def __post_init__(self) -> None:
        self._refuse_other_logs("TELEMETRY_GLOBS", self.telemetry_globs, self.decisions_path)
        self._refuse_other_logs("DECISIONS_GLOBS", self.decisions_globs, self.telemetry_path)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment, once.

        Raises:
            policy_runtime.errors.SettingsError: `POLICY_PATH`, `ECONOMICS_PATH`, `ALERT_SINKS_PATH` or
                `EVALUATION_PATH` names a file that is not there; or `TELEMETRY_GLOBS` or `DECISIONS_GLOBS`
                names a log of another kind; or `WAREHOUSE_MEMORY_MB` is no number of 64 or more.
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
            evaluation_path=_optional_file(environ, "EVALUATION_PATH", "evaluation.yaml"),
            telemetry_globs=gate.telemetry_globs,
            decisions_globs=names_in(environ, "DECISIONS_GLOBS"),
            warehouse_memory_mb=_memory_mb(environ, "WAREHOUSE_MEMORY_MB"),
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
        evaluation_path: Path | None = None,
        telemetry_globs: Sequence[str] = (),
        decisions_globs: Sequence[str] = (),
        warehouse_memory_mb: int = DEFAULT_WAREHOUSE_MEMORY_MB,
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
            evaluation_path=evaluation_path,
            telemetry_globs=tuple(telemetry_globs),
            decisions_globs=tuple(decisions_globs),
            warehouse_memory_mb=warehouse_memory_mb,
        )

    def with_warehouse(self, warehouse_path: Path) -> Settings:
        """The same surroundings around another warehouse file."""
        return replace(self, warehouse_path=warehouse_path)

    @property
    def logs(self) -> dict[Log, tuple[Named, ...]]:
        """What each log consists of, for `log_files.find_log_files`: the log itself first."""
        return {
            "telemetry": (self.telemetry_path, *self.telemetry_globs),
            "decisions": (self.decisions_path, *self.decisions_globs),
        }

    @property
    def evaluations_path(self) -> Path:
        """The log of evaluation results."""
        return self.home / "logs" / "evaluations.jsonl"

    @property
    def archive_path(self) -> Path:
        """The folder of archived log segments."""
        return self.home / "archive"

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its runs and events."""
        return self.home / "dagster"

    def _refuse_other_logs(self, variable: str, globs: Sequence[str], other_log: Path) -> None:
        for named in globs:
            for path in (other_log, self.alerts_path):
                if would_find(named, path):
                    raise SettingsError(
                        f"{variable} holds {named!r}, which also names {path}: its lines would be counted as "
                        "what they are not. Write a narrower pattern"
                    )


def _path(environ: Mapping[str, str], variable: str) -> Path | None:
    named = environ.get(variable)
    return Path(named) if named else None


def _memory_mb(environ: Mapping[str, str], variable: str) -> int:
    named = environ.get(variable)
    if not named:
        return DEFAULT_WAREHOUSE_MEMORY_MB
    if not (named.isascii() and named.isdigit() and int(named) >= _LEAST_WAREHOUSE_MEMORY_MB):
        raise SettingsError(
            f"{variable} is {named!r}, but is a number of megabytes, {_LEAST_WAREHOUSE_MEMORY_MB} or more"
        )
    return int(named)


def _optional_file(environ: Mapping[str, str], variable: str, default: str) -> Path | None:
    named = environ.get(variable)
    if named and not Path(named).is_file():
        raise SettingsError(f"{variable} is {named!r}, but there is no such file")
    path = Path(named or default)
    return path if path.is_file() else None
