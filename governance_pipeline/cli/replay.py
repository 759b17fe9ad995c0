"""`governance demo`: the bundled production trace through the real gate, and the five answers."""

from __future__ import annotations

import click

from governance_pipeline.cli.main import Finding


@click.command(short_help="Replay an hour of production traffic and print the five answers.")
def demo() -> None:
    """Replay an hour of production traffic through the gate and print the five answers.

    Everything is written to $GOVERNANCE_HOME/demo, which is replaced at each run.
    """
    from governance_pipeline.demo import run_demo  # noqa: PLC0415
    from governance_pipeline.settings import Settings  # noqa: PLC0415

    result = run_demo(Settings.from_environment().home / "demo")
    if result.failure is not None:
        raise Finding(result.failure)
