"""`governance check` and `governance status`: what a policy says, and where its windows stand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from governance_pipeline.cli.main import Finding
from governance_pipeline.cli.output import Format, format_option, print_rows, say
from governance_pipeline.errors import BadInput

_STATUS_COLUMNS = (
    "budget_namespace",
    "policy_id",
    "primitive",
    "mode",
    "unit",
    "scope",
    "spent",
    "reserved",
    "lapsed",
    "limit",
    "window_start",
)


@click.command(short_help="Say in words what a policy file will do.")
@click.argument("policy", required=False, type=click.Path(path_type=Path))
@click.option("--schema", is_flag=True, help="Print the JSON Schema of policy files, for editors.")
def check(policy: Path | None, schema: bool) -> None:
    """Validate a policy file and say in words what each rule will do."""
    from policy_runtime import PolicyFileError, describe_policy, load_policy, policy_json_schema  # noqa: PLC0415

    if schema:
        click.echo(json.dumps(policy_json_schema(), indent=2))
        return
    if policy is None:
        raise click.UsageError("name the policy file, or give --schema")
    if not policy.is_file():
        raise BadInput(f"{policy}: there is no such file")
    try:
        loaded = load_policy(policy)
    except PolicyFileError as exc:
        raise Finding(str(exc)) from exc
    for line in describe_policy(loaded.policy):
        click.echo(line)
    say(f"{policy} is valid (hash {loaded.hash}).")


@click.command()
@format_option
def status(form: Format) -> None:
    """Live windows: spent, reserved, lapsed and limit, per namespace, rule and scope."""
    from policy_runtime import PolicyRuntime, Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    if not settings.decisions_path.is_file() and not settings.telemetry_path.is_file():
        say(f"There are no logs yet ({settings.decisions_path}, {settings.telemetry_path}).")
    gate = PolicyRuntime.from_settings(settings)
    try:
        windows = [asdict(window) for window in gate.live_windows()]
    finally:
        gate.close()
    print_rows(_STATUS_COLUMNS, [[window[name] for name in _STATUS_COLUMNS] for window in windows], form)
    if not windows:
        say("No limit has counted anything yet.")
