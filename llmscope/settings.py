"""Where llmscope reads and writes, decided once at the edge.

`telemetry_path_from` is the one function by which every writer and reader of telemetry finds the
log: an explicit argument beats a patched value beats the environment beats the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmscope.errors import ConfigurationError
from llmscope.event_log import Durability

DEFAULT_HOME = "artifacts"


def home_from(environ: Mapping[str, str] | None = None) -> Path:
    """`GOVERNANCE_HOME`, the folder of everything this project writes; `artifacts` by default."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("GOVERNANCE_HOME") or DEFAULT_HOME)


def telemetry_path_from(environ: Mapping[str, str] | None = None) -> Path:
    """The telemetry log that the environment names, else `$GOVERNANCE_HOME/logs/telemetry.jsonl`.

    Raises:
        ConfigurationError: `TELEMETRY_PATH` and `LLMSCOPE_TELEMETRY_PATH` name different files.
    """
    environ = os.environ if environ is None else environ
    ours, original = environ.get("TELEMETRY_PATH"), environ.get("LLMSCOPE_TELEMETRY_PATH")
    if ours and original and Path(ours) != Path(original):
        raise ConfigurationError(
            f"TELEMETRY_PATH is {ours!r} but LLMSCOPE_TELEMETRY_PATH is {original!r}: "
            "writer and reader would miss each other. Set one of them, or both alike."
        )
    named = ours or original
    return Path(named) if named else home_from(environ) / "logs" / "telemetry.jsonl"


@dataclass(frozen=True, slots=True)
class Settings:
    """What llmscope takes from its surroundings.

    Attributes:
        telemetry_path: the log that `emit` appends to.
        durability: `os` or `fsync`, see `llmscope.event_log.LogWriter`.
    """

    telemetry_path: Path
    durability: Durability = "os"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment, once.

        Raises:
            ConfigurationError: two variables contradict each other.
        """
        return cls(telemetry_path=telemetry_path_from(environ))
