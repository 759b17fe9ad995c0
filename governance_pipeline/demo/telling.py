"""What the demo tells once it is through: what was replayed, the five answers, the alert, what to do next.

What does not belong here: how a table or a number is drawn (`narration`).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from governance_pipeline.demo.narration import tell_answer

if TYPE_CHECKING:
    from rich.console import Console

    from governance_pipeline.demo.run import DemoResult
    from governance_pipeline.demo.story import Story


def tell(console: Console, result: DemoResult, story: Story) -> None:
    """Print the whole result."""
    _tell_replay(console, result, story)
    for number, answer in enumerate(result.answers, start=1):
        tell_answer(console, number, answer)
    _tell_alerts(console, result)
    _tell_files(console, result)
    _tell_what_next(console, result)


def _tell_replay(console: Console, result: DemoResult, story: Story) -> None:
    counts = result.counts
    history = counts.total - result.own_hour_requests
    lines = [
        "Azure LLM inference trace 2023 (Azure Public Dataset, CC BY 4.0), an invented story planted in it.",
        f"Replayed: {result.own_hour_requests:,} requests of one hour of production, moved by whole hours "
        f"to end at {counts.last_arrival:%H:%M} UTC, and before it {story.history_hours} thinner hours of "
        f"the same traffic, one request in {story.history_every} ({history:,} requests): an alert must "
        "know what is usual.",
        f"{counts.answered:,} answered, {counts.denied:,} denied by the gate, {counts.failed:,} failed at "
        f"every provider. {result.replay_seconds:.0f} s for the replay, {result.total_seconds:.0f} s in all.",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False)
    console.print()


def _tell_alerts(console: Console, result: DemoResult) -> None:
    if result.failure is not None:
        console.print(f"Nothing was published: {result.failure}", style="bold red", markup=False)
        return
    console.rule("Alerts", align="left", style="dim")
    if not result.alerts:
        console.print("None: no feature's cost left its usual range.", markup=False)
    for alert in result.alerts:
        console.print(str(alert.data.get("message", alert.subject)), markup=False, highlight=False)
    console.print()


def _tell_files(console: Console, result: DemoResult) -> None:
    files = result.files
    console.rule("Files", align="left", style="dim")
    for path, what in (
        (files.telemetry, "one line per call, as llmscope wrote it"),
        (files.decisions, "one line per decision, as the gate wrote it"),
        (files.alerts, "alerts, as CloudEvents"),
        (files.policy, "the budgets and the anomaly watch"),
        (files.economics, "what a request earns"),
        (files.warehouse, "the warehouse, folded from the two logs"),
        (files.answers, "the published answers, as Parquet"),
    ):
        if path.exists():
            console.print(f"{_near(path)}  {what}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _tell_what_next(console: Console, result: DemoResult) -> None:
    console.rule("Next, on the demo's data", align="left", style="dim")
    for name, value in result.files.environment().items():
        console.print(f"export {name}={_near(Path(value))}", markup=False, highlight=False, soft_wrap=True)
    command = _command()
    asked = [f"{command} ask unsafe_routes", f"{command} ask cost_by_tenant_and_feature --format json"]
    if result.counts.first_denied is not None:
        asked.append(f"{command} explain {result.counts.first_denied}")
    asked += [f"{command} status", "make dev"]
    for line in asked:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _near(path: Path) -> str:
    """A path as it is typed from here: relative where it lies below the working folder."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def _command() -> str:
    """How `governance` is called from here: by name where the shell finds it, else by its path."""
    beside_python = Path(sys.executable).with_name("governance")
    found = shutil.which("governance")
    if found is not None or not os.access(beside_python, os.X_OK):
        return "governance"
    return _near(beside_python)
