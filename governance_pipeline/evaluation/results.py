"""evaluations.jsonl: every result of every run, appended under the log protocol.

Three events: `evaluation_result` (one case, one scorer), `evaluation_baseline` (a run was accepted as what
later ones are held against), `production_score` (a real request, one scorer). What does not belong here:
what any of them means.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from llmscope.event_log import LogWriter, iter_lines, open_log, rotated_siblings

SCHEMA_VERSION = "0.1.0"

_log = logging.getLogger(__name__)


class EvaluationLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log; None and unset is not written.

    Attributes:
        event: see the module.
        timestamp: RFC 3339, UTC.
        run_id: of an `evaluation_result` and of the run that a baseline accepts.
        scorer: by what the scores are known, see `suites`.
        score: from 0 to 1.
        passed: whether the case's mean score, over all scorers, reached the suite's `pass_score`.
        request_id: joins with telemetry.
        cost_usd: of the call; None when unknown.
        error_type: of a call that failed; its scores are 0.
    """

    event: str
    timestamp: str
    schema_version: str = msgspec.field(default_factory=lambda: SCHEMA_VERSION)
    run_id: str | None = None
    suite: str | None = None
    suite_hash: str | None = None
    case_id: str | None = None
    scorer: str | None = None
    score: float | None = None
    passed: bool | None = None
    request_id: str | None = None
    route_name: str | None = None
    provider: str | None = None
    model: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    error_type: str | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(EvaluationLine)


def append_results(path: str | os.PathLike[str], lines: Iterable[EvaluationLine]) -> None:
    """Append every line.

    Raises:
        EventLogError: the log could not be written.
    """
    writer = LogWriter(path)
    try:
        for line in lines:
            writer.append(_ENCODER.encode(line))
    finally:
        writer.close()


def read_results(path: str | os.PathLike[str]) -> list[EvaluationLine]:
    """Every line of the log and of its rotated generations, oldest first; none if there is no log. A line
    that is not whole is named in the program's log and passed over, an unknown key ignored."""
    path = Path(path)
    found = []
    for generation in [*reversed(rotated_siblings(path)), path]:
        if not generation.is_file():
            continue
        with open_log(generation) as stream:
            for offset, line in iter_lines(stream.read()):
                if not line.strip():
                    continue
                try:
                    found.append(_DECODER.decode(line))
                except msgspec.MsgspecError:
                    _log.warning("%s: the line at byte %d is not whole; passed over", generation, offset)
    return found
