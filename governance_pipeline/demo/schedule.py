"""From the trace and the story to the requests that are replayed. Pure: no clock, no files.

Each assignment (tenant, route, namespace, tier, …) is a draw that depends on the story's seed and
on the row's own name (service, number, hour) alone: another order, a thinner trace or another
wall-clock hour gives each row the same fate.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeVar

from governance_pipeline.demo.story import CHEAP, EXPENSIVE, Story
from governance_pipeline.demo.trace import CODE, HOUR_US, TraceRow

MAX_OUTPUT_TOKENS = 2_000
_MINUTE_US = 60_000_000
# Output tokens cost about four times as much as input tokens at every model of the demo.
_OUTPUT_WEIGHT = 4
Trouble = Literal["none", "primary_refuses", "all_refuse"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request to be made.

    Attributes:
        request_id: `demo-<seed>-<code|chat>-<row>`, with `-h<n>` for the n-th hour before the trace's own.
        arrival_us: in trace time (November 2023), microseconds since 1970; whole hours are added later.
        tokens_in, tokens_out: as in the trace, or larger where the story says so.
        trouble: which providers refuse it at once.
    """

    request_id: str
    arrival_us: int
    tenant_id: str
    caller_id: str
    feature_id: str
    route_name: str
    experiment_id: str | None
    budget_namespace: str | None
    model_tier: str
    tokens_in: int
    tokens_out: int
    trouble: Trouble = "none"


@dataclass(slots=True)
class _Draft:
    """A request while the story is still being written onto it."""

    row: TraceRow
    hour: int
    request_id: str
    draws: tuple[float, ...]
    tenant_id: str
    route_name: str
    budget_namespace: str | None
    model_tier: str
    tokens_in: int
    tokens_out: int
    experiment_id: str | None = None


def plan_requests(story: Story, rows: Sequence[TraceRow]) -> tuple[PlannedRequest, ...]:
    """Every request of the story in order of arrival: each row once in the trace's own hour, and
    thinned out in each of the `history_hours` before it.
    """
    if not rows:
        return ()
    first_us = min(row.arrival_us for row in rows)
    own_hour = [_draft(story, row, 0, first_us) for row in rows]
    drafts = list(own_hour)
    for hour in range(1, story.history_hours + 1):
        drafts.extend(
            _draft(story, draft.row, -hour, first_us)
            for draft in own_hour
            if int(draft.draws[7] * story.history_every) == hour % story.history_every
        )
    for position, experiment_id in enumerate(story.experiments):
        _enrol(story, drafts, position, experiment_id)
    planned = [_finish(story, draft) for draft in drafts]
    planned.sort(key=lambda request: (request.arrival_us, request.request_id))
    return tuple(planned)


def zipf_shares(count: int, skew: float) -> list[float]:
    """Shares of `count` ranks under Zipf's law: the n-th proportional to n ** -skew, together 1."""
    weights = [rank**-skew for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def _draft(story: Story, row: TraceRow, hour: int, first_us: int) -> _Draft:
    service = "code" if row.feature_id == CODE else "chat"
    request_id = f"demo-{story.seed}-{service}-{row.number:05d}" + (f"-h{-hour}" if hour else "")
    draws = _draws(request_id)
    routes = [route for route in story.routes if route.feature_id == row.feature_id]
    draft = _Draft(
        row=row,
        hour=hour,
        request_id=request_id,
        draws=draws,
        tenant_id=_pick(story.tenants, zipf_shares(len(story.tenants), story.skew), draws[0]),
        route_name=_pick(routes, [route.share for route in routes], draws[1]).name,
        budget_namespace=_pick(
            [name for name, _ in story.namespaces], [share for _, share in story.namespaces], draws[2]
        ),
        model_tier=EXPENSIVE if draws[3] < story.expensive_share else CHEAP,
        tokens_in=row.context_tokens,
        tokens_out=row.generated_tokens,
    )
    burner, spike = story.burner, story.spike
    if burner is not None and (draft.tenant_id, row.feature_id) == (burner.tenant_id, burner.feature_id):
        draft.tokens_in += burner.extra_tokens_in
        draft.model_tier = EXPENSIVE
    if spike is not None and (hour, row.feature_id) == (spike.hour, spike.feature_id):
        minute = (row.arrival_us - first_us) / _MINUTE_US
        if spike.start_minute <= minute < spike.start_minute + spike.minutes:
            draft.tokens_in += spike.extra_tokens_in
            draft.model_tier = EXPENSIVE
    return draft


def _enrol(story: Story, drafts: Iterable[_Draft], position: int, experiment_id: str) -> None:
    """Put a share of the requests into an experiment, its arms drawn within pairs of like requests.

    Randomising within pairs that would cost about the same (blocked randomisation) keeps a harmless
    experiment from looking dear by the luck of the draw. Requests of namespaces whose budget can
    bind are left out: there the gate, not the experiment, would decide the tier.
    """
    lowest = position * story.experiment_share
    limited = story.limited_namespaces
    enrolled = [
        draft
        for draft in drafts
        if draft.row.feature_id == story.experiment_feature
        and lowest <= draft.draws[4] < lowest + story.experiment_share
        and draft.budget_namespace not in limited
    ]
    enrolled.sort(
        key=lambda draft: (
            draft.route_name,
            draft.model_tier,
            draft.tokens_in + _OUTPUT_WEIGHT * draft.tokens_out,
            draft.request_id,
        )
    )
    for index, draft in enumerate(enrolled):
        treated_first = enrolled[index - index % 2].draws[5] < 0.5
        treated = treated_first == (index % 2 == 0)
        draft.experiment_id = experiment_id if treated else story.control_of(experiment_id)
        costly = story.costly
        if treated and costly is not None and costly.experiment_id == experiment_id:
            draft.tokens_in += costly.extra_tokens_in
            # One below the bound: an answer that is cut off would be no success.
            draft.tokens_out = min(draft.tokens_out * costly.output_factor, MAX_OUTPUT_TOKENS - 1)
            draft.model_tier = EXPENSIVE


def _finish(story: Story, draft: _Draft) -> PlannedRequest:
    trouble: Trouble = "none"
    if draft.draws[6] < story.failed_share:
        trouble = "all_refuse"
    elif draft.draws[6] < story.failed_share + story.refused_share:
        trouble = "primary_refuses"
    return PlannedRequest(
        request_id=draft.request_id,
        arrival_us=draft.row.arrival_us + draft.hour * HOUR_US,
        tenant_id=draft.tenant_id,
        caller_id=f"{draft.tenant_id}-{'ide' if draft.row.feature_id == CODE else 'web'}",
        feature_id=draft.row.feature_id,
        route_name=draft.route_name,
        experiment_id=draft.experiment_id,
        budget_namespace=draft.budget_namespace,
        model_tier=draft.model_tier,
        tokens_in=draft.tokens_in,
        tokens_out=min(draft.tokens_out, MAX_OUTPUT_TOKENS),
        trouble=trouble,
    )


def _draws(name: str) -> tuple[float, ...]:
    """Eight numbers in [0, 1) that depend on the name alone, evenly spread and independent."""
    digest = hashlib.blake2b(name.encode(), digest_size=64).digest()
    return tuple(word / 2**64 for word in struct.unpack(">8Q", digest))


def _pick(values: Sequence[T], shares: Sequence[float], draw: float) -> T:
    edges = list(accumulate(shares))
    return values[min(bisect_right(edges, draw * edges[-1]), len(values) - 1)]
