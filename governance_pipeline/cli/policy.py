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
_ESTIMATE_COLUMNS = (
    "route_name",
    "model",
    "model_tier",
    "settled_count",
    "mean_expected_usd",
    "mean_reserved_usd",
    "mean_cost_usd",
    "expected_over_cost",
    "reserved_over_cost",
)


@click.command(short_help="Say in words what a policy file will do.")
@click.argument("policy", required=False, type=click.Path(path_type=Path))
@click.option("--schema", is_flag=True, help="Print the JSON Schema of such files, for editors.")
@click.option("--runtime", is_flag=True, help="It is a runtime.yaml: the stages of llmscope's calls.")
def check(policy: Path | None, schema: bool, runtime: bool) -> None:
    """Validate a policy file (or a runtime.yaml) and say in words what each rule (or stage) will do."""
    if runtime:
        _check_runtime(policy, schema)
        return
    from policy_runtime import PolicyFileError, describe_policy, load_policy, policy_json_schema  # noqa: PLC0415

    if schema:
        click.echo(json.dumps(policy_json_schema(), indent=2))
        return
    if policy is None:
        raise click.UsageError("name the policy file, or give --schema")
    _require_file(policy)
    try:
        loaded = load_policy(policy)
    except PolicyFileError as exc:
        raise Finding(str(exc)) from exc
    for line in describe_policy(loaded.policy):
        click.echo(line)
    say(f"{policy} is valid (hash {loaded.hash}).")


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise BadInput(f"{path} is no file" if path.exists() else f"{path}: there is no such file")


def _check_runtime(path: Path | None, schema: bool) -> None:
    from llmscope.errors import ConfigurationError  # noqa: PLC0415
    from llmscope.gateway.runtime_description import describe_runtime  # noqa: PLC0415
    from llmscope.gateway.runtime_file import read_runtime, runtime_json_schema  # noqa: PLC0415

    if schema:
        click.echo(json.dumps(runtime_json_schema(), indent=2))
        return
    if path is None:
        raise click.UsageError("name the runtime file, or give --schema")
    _require_file(path)
    try:
        settings = read_runtime(path)
    except ConfigurationError as exc:
        raise Finding(str(exc)) from exc
    for line in describe_runtime(settings):
        click.echo(line)
    say(f"{path} is valid.")


@click.command(short_help="Show what stands against each limit now.")
@click.option("--estimates", is_flag=True, help="Only how far estimates were off, by route and model.")
@format_option
def status(estimates: bool, form: Format) -> None:
    """Live windows: spent, reserved, lapsed and limit, per namespace, rule and scope.

    Below it, or alone with --estimates: what settled requests were expected to cost and what was reserved
    for them, beside what they did cost. Where reserved / cost is far above 1, `reserve: expected` in the
    policy file uses more of the budget; expected / cost says how near that comes.
    """
    from policy_runtime import PolicyRuntime, Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    if not settings.decisions_path.exists() and not settings.telemetry_path.exists():
        say(f"There are no logs yet ({settings.decisions_path}, {settings.telemetry_path}).")
    gate = PolicyRuntime.from_settings(settings)
    try:
        windows = [asdict(window) for window in gate.live_windows()]
        quality = [asdict(row) for row in gate.estimates()]
    finally:
        gate.close()
    if not estimates:
        print_rows(_STATUS_COLUMNS, [[window[name] for name in _STATUS_COLUMNS] for window in windows], form)
        if not windows:
            say("No limit has counted anything yet.")
    if estimates or (form == "table" and quality):
        print_rows(_ESTIMATE_COLUMNS, [[row[name] for name in _ESTIMATE_COLUMNS] for row in quality], form)
        if not quality:
            say("No request with an estimate has been settled yet.")
