"""The command's entrance: the commands by name, and errors as one line and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from governance_pipeline.errors import ArchiveDamaged, IngestError, PipelineError, WarehouseError
from llmscope.errors import ConfigurationError, EventLogError
from policy_runtime.errors import PolicyRuntimeError

EXIT_FINDING = 1
EXIT_BAD_INPUT = 2
EXIT_ENVIRONMENT = 3

# Where each command lives; a command's module is imported when it is asked for, so that `--help` is quick.
_COMMANDS = {
    "demo": "replay",
    "ask": "answers",
    "materialize": "refresh",
    "check": "policy",
    "explain": "requests",
    "reprice": "reprice",
    "stats": "stats",
    "status": "policy",
    "rejects": "requests",
    "rebuild": "refresh",
    "archive": "retention",
    "evaluate": "evaluate",
}


class Finding(click.ClickException):
    """The command did its work and found something to report: exit code 1."""

    exit_code = EXIT_FINDING


class _Commands(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module: Any = importlib.import_module(f"governance_pipeline.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whoever reads its rows may leave early, which is no failure of it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  (what is left to flush)
            ctx.exit(0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def governance() -> None:
    """Where the money of LLM inference goes: five questions, answered from two logs."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and leave the process with its exit code."""
    try:
        code = governance.main(
            args=None if arguments is None else list(arguments), prog_name="governance", standalone_mode=False
        )
    except click.ClickException as exc:
        if isinstance(exc, NoArgsIsHelpError):
            click.echo(exc.format_message(), err=True)
            sys.exit(EXIT_BAD_INPUT)
        hint = f" (`{_path_of(exc)} --help` lists what there is)" if isinstance(exc, click.UsageError) else ""
        sys.exit(_fail(f"{exc.format_message()}{hint}", exc.exit_code))
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_fail("interrupted", 130))
    except (WarehouseError, IngestError, ArchiveDamaged, EventLogError, TimeoutError) as exc:
        sys.exit(_fail(str(exc), EXIT_ENVIRONMENT))
    except (PipelineError, ConfigurationError) as exc:
        sys.exit(_fail(str(exc), EXIT_BAD_INPUT))
    except PolicyRuntimeError as exc:
        sys.exit(_fail(str(exc), EXIT_ENVIRONMENT if isinstance(exc, OSError) else EXIT_BAD_INPUT))
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        sys.exit(_fail(f"{where}{exc.strerror or exc}", EXIT_ENVIRONMENT))
    sys.exit(code if isinstance(code, int) else 0)


def _path_of(error: click.UsageError) -> str:
    return "governance" if error.ctx is None else error.ctx.command_path


def _fail(message: str, code: int) -> int:
    click.echo(f"governance: {message}", err=True)
    return code
