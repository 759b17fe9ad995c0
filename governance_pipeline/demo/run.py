"""The whole demo: replay, ingest and materialise, raise the alert, tell the five answers.

What does not belong here: how the parts work. Everything after the replay is what any user of the
pipeline runs: the same assets, checks, answers and alerts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from governance_pipeline.alerts import Alert, read_alerts
from governance_pipeline.answers import ask
from governance_pipeline.demo.configuration import economics_text, policy_text
from governance_pipeline.demo.folder import DemoFiles, fresh_folder
from governance_pipeline.demo.narration import Answer, ProgressLine, consoles
from governance_pipeline.demo.replay import ReplayCounts, replay
from governance_pipeline.demo.schedule import plan_requests
from governance_pipeline.demo.story import DEFAULT_STORY, Story
from governance_pipeline.demo.telling import tell
from governance_pipeline.demo.trace import HOUR_US, TraceRow, load_trace, shift_hours
from governance_pipeline.materialize import materialize_all
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What a demo came to.

    Attributes:
        files: where everything lies.
        counts: what became of the replayed requests.
        own_hour_requests: how many of them are the trace's own; the rest are history.
        answers: the five, in the order of the questions.
        alerts: what stands in alerts.jsonl.
        failure: why nothing was published, None when all is well.
        replay_seconds, total_seconds: real time taken.
    """

    files: DemoFiles
    counts: ReplayCounts
    own_hour_requests: int
    answers: tuple[Answer, ...]
    alerts: tuple[Alert, ...]
    failure: str | None
    replay_seconds: float
    total_seconds: float

    def answer(self, question: str) -> Answer:
        """One of the five by its name."""
        return next(answer for answer in self.answers if answer.question == question)


def run_demo(
    home: Path,
    *,
    now: datetime | None = None,
    story: Story = DEFAULT_STORY,
    rows: Sequence[TraceRow] | None = None,
    console: Console | None = None,
    progress_console: Console | None = None,
) -> DemoResult:
    """Replay the trace with `story` planted, run the pipeline over it, and tell what it found.

    Args:
        home: the demo's folder, replaced if an earlier demo made it.
        now: the instant of the run; the trace's last request lies within the hour before it.
        rows: another trace than the bundled one, in order of arrival.
        console: where the story goes; stdout by default.
        progress_console: where progress goes; stderr by default.

    Raises:
        ForeignFolderError: `home` is not the demo's to replace.
        TraceError: the bundled trace is missing or damaged.
    """
    began = time.monotonic()
    out, err = consoles(console, progress_console)
    now = datetime.now(UTC) if now is None else now
    rows = load_trace() if rows is None else rows
    files = fresh_folder(home)
    files.policy.write_text(policy_text(story), encoding="utf-8")
    files.economics.write_text(economics_text(story), encoding="utf-8")
    requests = plan_requests(story, rows)
    with ProgressLine(err, f"Replaying {len(requests):,} requests through the gate") as progress:
        counts = replay(
            story,
            requests,
            files,
            own_hour_begins_us=rows[0].arrival_us,
            shift_us=shift_hours(rows, now) * HOUR_US,
            progress=progress,
        )
    replay_seconds = time.monotonic() - began

    settings = Settings.in_home(files.home, policy_path=files.policy, economics_path=files.economics)
    err.print("Ingesting both logs, building, checking and publishing the answers", markup=False)
    outcome = materialize_all(
        settings, say=lambda line: err.print(line, markup=False, highlight=False, soft_wrap=True)
    )
    answers: tuple[Answer, ...] = ()
    if outcome.succeeded:
        answers = tuple(_ask(question, settings) for question in QUESTIONS)
    result = DemoResult(
        files=files,
        counts=counts,
        own_hour_requests=len(rows),
        answers=answers,
        alerts=tuple(read_alerts(settings.alerts_path)),
        failure=outcome.failure or None,
        replay_seconds=replay_seconds,
        total_seconds=time.monotonic() - began,
    )
    tell(out, result, story)
    return result


def _ask(question: str, settings: Settings) -> Answer:
    answer = ask(question, settings)
    return Answer(question, tuple(answer.columns), tuple(map(tuple, answer.rows)), answer.sentence)
