"""`governance ask`: one of the five questions, from the published answers or straight from log files."""

from __future__ import annotations

from pathlib import Path

import click

from governance_pipeline.cli.output import Format, format_option, print_rows, say
from governance_pipeline.errors import BadInput
from governance_pipeline.wording import counted

# Whether it can be read is the machine's affair, not the user's: exit code 3, by whoever opens it.
_FILE = click.Path(path_type=Path, readable=False)


@click.command(short_help="Answer one of the five questions.")
@click.argument("question")
@click.option(
    "--telemetry",
    type=_FILE,
    help="Fold this telemetry log (JSON Lines, gzip too).",
)
@click.option("--decisions", type=_FILE, help="Fold this decision log.")
@click.option(
    "--threshold", type=float, help="unsafe_routes: average cost in USD above which a row is unsafe."
)
@click.option("--since", help="Only the last 90m, 24h or 7d of the logs, or from an instant on.")
@format_option
def ask(
    question: str,
    telemetry: Path | None,
    decisions: Path | None,
    threshold: float | None,
    since: str | None,
    form: Format,
) -> None:
    """Answer QUESTION: cost_by_tenant_and_feature, experiment_cost_vs_outcome,
    budget_pressure_by_namespace, fallback_latency_masking or unsafe_routes.

    With --telemetry or --decisions the answer comes straight from those files, a missing one being empty;
    else from the published answers, and where nothing is published yet, from the default logs.
    """
    from governance_pipeline import answers  # noqa: PLC0415  (DuckDB is loaded only where it is needed)
    from governance_pipeline.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    if telemetry is not None or decisions is not None:
        for path in (telemetry, decisions):
            if path is not None and path.exists() and not path.is_file():
                raise BadInput(f"{path} is no file")
            if path is not None and not path.exists():
                say(f"{path}: there is no such file; it is taken as empty.")
        answer = answers.ask_files(
            question, telemetry, decisions, settings.economics_path, since=since, threshold=threshold
        )
    else:
        answer = answers.ask(question, settings, since=since, threshold=threshold)
        if answer.origin == "logs":
            say(
                f"Nothing is published in {settings.answers_path} yet (`governance materialize` does that): "
                f"answered from {settings.telemetry_path} and {settings.decisions_path}."
            )
    if answer.rejected_lines:
        rejected = counted(answer.rejected_lines, "line is no log line", "lines are no log lines")
        say(f"{rejected} of ours and {'counts' if answer.rejected_lines == 1 else 'count'} for nothing.")
    print_rows(answer.columns, answer.rows, form)
    say(answer.sentence)
    if answer.as_of is not None:
        since_words = "" if answer.since is None else f", requests since {answer.since:%Y-%m-%d %H:%M:%S} UTC"
        say(f"As of {answer.as_of:%Y-%m-%d %H:%M:%S} UTC, the logs' latest event{since_words}.")
