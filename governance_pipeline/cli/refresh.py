"""`governance materialize` and `governance rebuild`: folding the logs into the warehouse and its answers."""

from __future__ import annotations

import click

from governance_pipeline.cli.main import Finding
from governance_pipeline.cli.output import say


@click.command(short_help="Ingest, build, check and publish everything.")
def materialize() -> None:
    """Ingest what is new, rebuild every asset, run every check, publish the answers: in this process."""
    from governance_pipeline.materialize import materialize_all  # noqa: PLC0415  (Dagster takes a second)
    from governance_pipeline.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    outcome = materialize_all(settings, say=say)
    if not outcome.succeeded:
        raise Finding(outcome.failure)
    say(f"The answers are published in {settings.answers_path}; `governance ask QUESTION` reads them.")


@click.command(short_help="Fold the logs again into a fresh warehouse.")
@click.option("--accept-loss", is_flag=True, help="Go on although ingested log files are no longer on disk.")
def rebuild(accept_loss: bool) -> None:
    """Fold all logs into a fresh warehouse beside the present one, check it, and swap."""
    from governance_pipeline.rebuild import rebuild_warehouse  # noqa: PLC0415
    from governance_pipeline.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment()
    failed = rebuild_warehouse(settings, accept_loss=accept_loss, say=say)
    if failed:
        raise Finding(
            "the rebuilt warehouse does not pass its checks, the present one stays: " + "; ".join(failed)
        )
    say(f"{settings.warehouse_path} has been folded again from the logs.")
