"""What an operator sees of a canary: where it stands, and how it got there.

What does not belong here: how it gets there (`canary`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

logger = logging.getLogger("llmscope")

CanaryState = Literal["running", "promoted", "rolled_back"]
TransitionReason = Literal[
    "auto_advance",
    "auto_promote",
    "auto_rollback",
    "cool_off_over",
    "manual_advance",
    "manual_rollback",
    "manual_stage",
]


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a canary's share.

    Attributes:
        at_seconds: when, on the clock of the calls (monotonic). The line in the program's log has the
            date.
        from_share, to_share: the candidate's share of the requests before and after, 0 to 1.
        candidate_calls, candidate_faults, primary_calls, primary_faults: what the stage that ended had
            counted.
        burn_rate: the candidate's share of faults in it over what was allowed.
    """

    at_seconds: float
    from_share: float
    to_share: float
    reason: TransitionReason
    candidate_calls: int
    candidate_faults: int
    primary_calls: int
    primary_faults: int
    burn_rate: float

    def log(self, candidates: str) -> None:
        """Tell the program's log: a rollback as a warning, all else as information."""
        logger.log(
            logging.WARNING if self.to_share == 0 else logging.INFO,
            "canary %s: from %g %% to %g %% of requests (%s): "
            "candidate: %d faults in %d attempts, primary: %d in %d",
            candidates,
            100 * self.from_share,
            100 * self.to_share,
            self.reason,
            self.candidate_faults,
            self.candidate_calls,
            self.primary_faults,
            self.primary_calls,
        )


@dataclass(frozen=True, slots=True)
class CanaryStatus:
    """Where a canary stands.

    Attributes:
        share: the candidate's share of the requests, 0 to 1.
        stage: the index of the running stage; None when rolled back or promoted.
        candidate_calls, candidate_faults, primary_calls, primary_faults: of the stage that runs.
        burn_rate: the candidate's share of faults in it over what is allowed.
        history: the last 1,000 transitions, oldest first.
    """

    state: CanaryState
    share: float
    stage: int | None
    candidate_calls: int
    candidate_faults: int
    primary_calls: int
    primary_faults: int
    burn_rate: float
    history: tuple[Transition, ...]
