"""Where the gate finds its policy and logs, decided once at the edge."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmscope.log_names import names_in
from llmscope.settings import home_from, telemetry_path_from
from policy_runtime.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Settings:
    """What the gate takes from its surroundings.

    Attributes:
        telemetry_path: the log that llmscope appends to and the gate folds.
        decisions_path: the log that the gate appends to.
        policy_path: the policy file; None means the packaged policy without rules.
        telemetry_globs: further telemetry logs to fold, by path or pattern, of programs that keep a file of
            their own.
        awaited_policy_path: where a policy file may still appear, which is followed from then on; None where
            none is waited for.
    """

    telemetry_path: Path
    decisions_path: Path
    policy_path: Path | None
    telemetry_globs: tuple[str, ...] = ()
    awaited_policy_path: Path | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment, once.

        Raises:
            SettingsError: `POLICY_PATH` is set but there is no such file.
            llmscope.errors.ConfigurationError: two variables name different telemetry logs.
        """
        environ = os.environ if environ is None else environ
        decisions = environ.get("DECISIONS_PATH")
        named = environ.get("POLICY_PATH")
        if named and not Path(named).is_file():
            raise SettingsError(f"POLICY_PATH is {named!r}, but there is no such file")
        policy = Path(named) if named else Path("policy.yaml")
        is_there = policy.is_file()
        return cls(
            telemetry_path=telemetry_path_from(environ),
            decisions_path=Path(decisions)
            if decisions
            else home_from(environ) / "logs" / "policy_decisions.jsonl",
            policy_path=policy if is_there else None,
            telemetry_globs=names_in(environ, "TELEMETRY_GLOBS"),
            awaited_policy_path=None if is_there else policy.absolute(),
        )
