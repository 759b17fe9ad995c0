"""A new target that gets a little of the traffic, then more, or none again.

What does not belong here: when the evidence is enough (`canary_stage`).
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import pairwise

from llmscope.errors import AdvanceRefused, ConfigurationError
from llmscope.gateway.routing.canary_history import (
    CanaryState,
    CanaryStatus,
    Transition,
    TransitionReason,
)
from llmscope.gateway.routing.canary_stage import StageEvidence, StageRules
from llmscope.gateway.routing.candidates import (
    Candidates,
    CandidateTargets,
    checked_positive,
    name_of,
    sole_choice,
)
from llmscope.gateway.routing.request_draw import fraction_of
from llmscope.gateway.stages import Observation, RoutingChoice, RoutingRequest, Target

_HISTORY_LENGTH = 1000


class CanaryRouter:
    """Sends a share of the requests, drawn by their ids, to `candidate` and the rest to `primary`.

    A request that falls to the candidate at one stage does so at every later one, in every process. The
    primary is the candidate's fallback; the candidate is nobody's, for its share would not be what the
    stage says. After the last stage the candidate is promoted: it gets everything, and is judged no more.

    Args:
        primary: what serves now, for every tier or by tier.
        candidate: what may come to serve instead, likewise; a tier without one stays with its primary.
            The tiers' candidates advance together, on the attempts at any of them.
        provider_name: the route's own provider, for an explicit model that neither serves.
        stages: the candidate's shares, rising, above 0 and up to 1.
        window_calls: attempts at the candidate that a stage lasts at least; None for no such condition.
        window_seconds: time that a stage lasts at least; None for no such condition.
        burn_multiplier: the candidate may fail this many times as often as the SLO allows.
        slo_error_rate: the share of attempts that may fail. Where the primary fails more often at the
            same time, its share stands instead.
        slo_latency_ms: an answer slower than this counts as a fault, at either; None for none.
        minimum_sample: fewer attempts at the candidate than this decide nothing.
        chance_of_false_rollback: of a candidate that keeps the SLO, within one stage.
        cool_off_seconds: how long after an automatic rollback the canary starts again by itself; None
            for never.
        seed: another one draws other requests.

    Raises:
        ConfigurationError: fewer than two different targets, or a number out of its range.
    """

    decision_of_primary = "primary"
    decision_of_candidate = "canary"
    decision_of_explicit_model = "explicit_model"

    def __init__(
        self,
        primary: Target | Mapping[str, Target],
        candidate: Target | Mapping[str, Target],
        *,
        provider_name: str | None = None,
        stages: Sequence[float] = (0.01, 0.05, 0.25, 1.0),
        window_calls: int | None = 200,
        window_seconds: float | None = None,
        burn_multiplier: float = 2.0,
        slo_error_rate: float = 0.01,
        slo_latency_ms: float | None = None,
        minimum_sample: int = 10,
        chance_of_false_rollback: float = 0.001,
        cool_off_seconds: float | None = None,
        seed: int = 0,
    ) -> None:
        pairs, self._primaries, self._challengers = _checked_arms(primary, candidate)
        self._candidates = Candidates(pairs, provider_name=provider_name)
        self._stages = _checked_stages(stages)
        self._rules = StageRules(
            slo_error_rate=slo_error_rate,
            burn_multiplier=burn_multiplier,
            minimum_sample=minimum_sample,
            chance_of_false_rollback=chance_of_false_rollback,
            window_calls=window_calls,
            window_seconds=window_seconds,
        )
        for value, name in ((cool_off_seconds, "cool_off_seconds"), (slo_latency_ms, "slo_latency_ms")):
            if value is not None:
                checked_positive(value, name)
        self._slowest_ms = math.inf if slo_latency_ms is None else slo_latency_ms
        self._cool_off_seconds = cool_off_seconds
        self._salt = f"canary:{seed}"
        self._lock = threading.Lock()
        self._history: deque[Transition] = deque(maxlen=_HISTORY_LENGTH)
        self._now_seconds = 0.0
        self._restart_seconds: float | None = None
        self._state: CanaryState = "running"
        self._stage = 0
        self._evidence = StageEvidence(self._rules)

    # The pipeline's side -------------------------------------------------------------------------------

    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice:
        """Candidate, then primary; or primary alone. A request for the model of one of them goes to that
        one only, unless both serve it."""
        eligible = self._candidates.eligible(request)
        primary = next((target for target in eligible if target in self._primaries), None)
        candidate = next((target for target in eligible if target in self._challengers), None)
        if primary is None or candidate is None:
            decision = self.decision_of_primary if request.model is None else self.decision_of_explicit_model
            return sole_choice(eligible[0], decision)
        moved = None
        with self._lock:
            self._now_seconds = max(self._now_seconds, now_seconds)
            if self._restart_seconds is not None and now_seconds >= self._restart_seconds:
                moved = self._move("running", 0, "cool_off_over")
            share, state = self._share(), self._state
        self._log(moved)
        reason = f"{100 * share:g} % of requests go to {name_of(candidate)} ({state})"
        if fraction_of(request.request_id, self._salt) < share:
            return RoutingChoice((candidate, primary), self.decision_of_candidate, reason)
        return RoutingChoice((primary,), self.decision_of_primary, reason)

    def observe(self, observation: Observation, now_seconds: float) -> None:
        """Count an attempt at candidate or primary while a stage runs, and move on if it is the one that
        decides. One that ended for the caller's own fault is left out."""
        target = observation.target
        if not (observation.is_success or observation.is_fault):
            return
        is_fault = observation.is_fault or observation.latency_ms > self._slowest_ms
        with self._lock:
            self._now_seconds = max(self._now_seconds, now_seconds)
            moved = self._judge(target, is_fault, now_seconds) if self._state == "running" else None
        self._log(moved)

    # The operator's side -------------------------------------------------------------------------------

    def advance(self, *, force: bool = False, now_seconds: float | None = None) -> Transition:
        """Go to the next stage, or promote after the last; after a rollback, start again at the first.

        Args:
            force: also if the candidate's burn rate in this stage is above the multiplier.
            now_seconds: the time for the history; that of the last call if None.

        Raises:
            AdvanceRefused: the candidate burns and `force` is not set, or it is promoted already.
        """
        with self._lock:
            self._tell(now_seconds)
            if self._state == "rolled_back":
                moved = self._move("running", 0, "manual_advance")
            else:
                self._refuse_to_advance(force)
                moved = self._advance("manual_advance", "manual_advance")
        self._log(moved)
        return moved

    def rollback(self, *, now_seconds: float | None = None) -> Transition:
        """Take all traffic from the candidate. It starts again by hand only."""
        with self._lock:
            self._tell(now_seconds)
            moved = self._move("rolled_back", 0, "manual_rollback")
        self._log(moved)
        return moved

    def set_stage(self, share: float, *, now_seconds: float | None = None) -> Transition:
        """Run the stage with this share of the requests; 0 rolls back.

        Raises:
            ConfigurationError: there is no such stage; the message lists those there are.
        """
        if share != 0 and share not in self._stages:
            possible = ", ".join(f"{stage:g}" for stage in (0, *self._stages))
            raise ConfigurationError(f"canary: no stage has a share of {share:g}; there are: {possible}")
        with self._lock:
            self._tell(now_seconds)
            if share == 0:
                moved = self._move("rolled_back", 0, "manual_stage")
            else:
                moved = self._move("running", self._stages.index(share), "manual_stage")
        self._log(moved)
        return moved

    def status(self) -> CanaryStatus:
        """Where it stands."""
        with self._lock:
            evidence = self._evidence
            return CanaryStatus(
                state=self._state,
                share=self._share(),
                stage=self._stage if self._state == "running" else None,
                candidate_calls=evidence.candidate_calls,
                candidate_faults=evidence.candidate_faults,
                primary_calls=evidence.primary_calls,
                primary_faults=evidence.primary_faults,
                burn_rate=evidence.burn_rate(),
                history=tuple(self._history),
            )

    def _log(self, moved: Transition | None) -> None:
        """Tell the program's log, after the lock is released: a handler may take its time."""
        if moved is not None:
            moved.log(", ".join(name_of(target) for target in self._challengers))

    # With the lock held --------------------------------------------------------------------------------

    def _tell(self, now_seconds: float | None) -> None:
        if now_seconds is not None:
            self._now_seconds = max(self._now_seconds, now_seconds)

    def _share(self) -> float:
        if self._state == "running":
            return self._stages[self._stage]
        return 1.0 if self._state == "promoted" else 0.0

    def _judge(self, target: Target, is_fault: bool, now_seconds: float) -> Transition | None:
        if target in self._primaries:
            self._evidence.observe_primary(is_fault, now_seconds)
        elif target in self._challengers:
            verdict = self._evidence.observe_candidate(is_fault, now_seconds)
            if verdict == "advance":
                return self._advance("auto_advance", "auto_promote")
            if verdict == "roll_back":
                moved = self._move("rolled_back", 0, "auto_rollback")
                if self._cool_off_seconds is not None:
                    self._restart_seconds = now_seconds + self._cool_off_seconds
                return moved
        return None

    def _refuse_to_advance(self, force: bool) -> None:
        if self._state == "promoted":
            raise AdvanceRefused("canary: the candidate is promoted and gets every request already")
        evidence = self._evidence
        if not force and evidence.burn_rate() > self._rules.burn_multiplier:
            raise AdvanceRefused(
                f"canary: the candidate burns {evidence.burn_rate():.3g} times its budget "
                f"({evidence.candidate_faults} faults in {evidence.candidate_calls} attempts), above the "
                f"multiplier of {self._rules.burn_multiplier:g}; force=True advances all the same"
            )

    def _advance(self, reason: TransitionReason, reason_at_the_end: TransitionReason) -> Transition:
        if self._stage + 1 < len(self._stages):
            return self._move("running", self._stage + 1, reason)
        return self._move("promoted", self._stage, reason_at_the_end)

    def _move(self, state: CanaryState, stage: int, reason: TransitionReason) -> Transition:
        ended, from_share = self._evidence, self._share()
        was_running = self._state == "running"
        self._state, self._stage, self._restart_seconds = state, stage, None
        self._evidence = StageEvidence(self._rules, ended.baseline() if was_running else None)
        transition = Transition(
            at_seconds=self._now_seconds,
            from_share=from_share,
            to_share=self._share(),
            reason=reason,
            candidate_calls=ended.candidate_calls,
            candidate_faults=ended.candidate_faults,
            primary_calls=ended.primary_calls,
            primary_faults=ended.primary_faults,
            burn_rate=ended.burn_rate(),
        )
        self._history.append(transition)
        return transition


def _checked_arms(
    primary: Target | Mapping[str, Target], candidate: Target | Mapping[str, Target]
) -> tuple[CandidateTargets, tuple[Target, ...], tuple[Target, ...]]:
    """Every tier's targets, the primaries, and the candidates."""
    pairs: CandidateTargets
    primaries: tuple[Target, ...]
    challengers: tuple[Target, ...]
    if isinstance(primary, Target) and isinstance(candidate, Target):
        pairs, primaries, challengers = (primary, candidate), (primary,), (candidate,)
    elif isinstance(primary, Mapping) and isinstance(candidate, Mapping):
        if strangers := sorted(set(candidate) - set(primary)):
            raise ConfigurationError(f"canary: tier {strangers[0]!r} has a candidate and no primary")
        pairs = {
            tier: (of_tier, candidate[tier]) if tier in candidate else (of_tier,)
            for tier, of_tier in primary.items()
        }
        primaries, challengers = tuple(primary.values()), tuple(candidate.values())
    else:
        raise ConfigurationError(
            "canary: give a primary and a candidate as Target(provider, model), or both by tier; "
            f"got {type(primary).__name__} and {type(candidate).__name__}"
        )
    if not challengers:
        raise ConfigurationError("canary: no tier has a candidate; a canary needs two targets")
    if both := set(primaries) & set(challengers):
        raise ConfigurationError(
            f"canary: {name_of(both.pop())} is primary and candidate; a canary needs two different targets"
        )
    return pairs, primaries, challengers


def _checked_stages(stages: Sequence[float]) -> tuple[float, ...]:
    rising = all(low < high for low, high in pairwise(stages))
    if not stages or not rising or stages[0] <= 0 or stages[-1] > 1:
        raise ConfigurationError(
            f"canary: stages are {tuple(stages)}; give rising shares above 0 and up to 1, "
            "such as 0.01, 0.05, 0.25, 1"
        )
    return tuple(stages)
