"""The story generator: pure, drawn row by row, and its plants where the parameters say."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from governance_pipeline.demo.errors import StoryError
from governance_pipeline.demo.schedule import PlannedRequest, plan_requests, zipf_shares
from governance_pipeline.demo.story import (
    DEFAULT_STORY,
    BudgetLimit,
    CostlyExperiment,
    CostSpike,
    MarginBurner,
    Outage,
    Story,
    UnsafeRoute,
    without_plants,
)
from governance_pipeline.demo.trace import CHAT, CODE, HOUR_US, TraceRow, every_nth, load_trace

ROWS = load_trace()
THIN = every_nth(ROWS, 9)
QUIET = without_plants(DEFAULT_STORY)


def _by_id(story: Story, rows: tuple[TraceRow, ...] = THIN) -> dict[str, PlannedRequest]:
    return {request.request_id: request for request in plan_requests(story, rows)}


def test_equal_stories_give_equal_requests_and_another_seed_other_ones() -> None:
    assert plan_requests(DEFAULT_STORY, THIN) == plan_requests(DEFAULT_STORY, THIN)
    other = plan_requests(replace(DEFAULT_STORY, seed=7), THIN)
    mine = plan_requests(DEFAULT_STORY, THIN)
    assert [each.tenant_id for each in other] != [each.tenant_id for each in mine]


def test_the_order_of_the_rows_decides_nothing() -> None:
    shuffled = list(THIN)
    random.Random(1).shuffle(shuffled)
    assert plan_requests(DEFAULT_STORY, shuffled) == plan_requests(DEFAULT_STORY, THIN)


def test_a_thinner_trace_gives_the_same_row_the_same_fate() -> None:
    whole, thin = _by_id(QUIET, ROWS), _by_id(QUIET)
    for request_id in thin:
        one, other = whole[request_id], thin[request_id]
        assert replace(one, experiment_id=None) == replace(other, experiment_id=None)


def test_every_row_is_replayed_once_in_its_own_hour_and_thinned_out_before() -> None:
    requests = plan_requests(DEFAULT_STORY, ROWS)
    first_us = ROWS[0].arrival_us
    own = [request for request in requests if request.arrival_us >= first_us]
    assert Counter(request.arrival_us for request in own) == Counter(row.arrival_us for row in ROWS)
    hours = Counter((request.arrival_us - first_us) // HOUR_US for request in requests)
    assert set(hours) == set(range(-8, 1))
    assert all(700 < hours[hour] < 1_100 for hour in range(-8, 0))
    assert len({request.request_id for request in requests}) == len(requests)


def test_with_nothing_planted_tokens_are_the_traces_own() -> None:
    rows = {(row.feature_id, row.number): row for row in THIN}
    for request in plan_requests(QUIET, THIN):
        row = rows[request.feature_id, int(request.request_id.split("-")[3])]
        assert (request.tokens_in, request.tokens_out) == (row.context_tokens, row.generated_tokens)


def test_tenants_follow_zipfs_law() -> None:
    shares = zipf_shares(8, 0.7)
    assert sum(shares) == pytest.approx(1)
    counts = Counter(request.tenant_id for request in plan_requests(QUIET, ROWS))
    for tenant_id, share in zip(QUIET.tenants, shares, strict=True):
        assert counts[tenant_id] / counts.total() == pytest.approx(share, rel=0.1)


def test_the_arms_of_an_experiment_are_of_one_size_and_outside_limited_namespaces() -> None:
    for story in (DEFAULT_STORY, QUIET):
        arms = Counter(request.experiment_id for request in plan_requests(story, ROWS))
        for experiment_id in story.experiments:
            treated, control = arms[experiment_id], arms[story.control_of(experiment_id)]
            assert treated > 500
            assert abs(treated - control) < 0.1 * treated
    in_experiments = [each for each in plan_requests(DEFAULT_STORY, ROWS) if each.experiment_id]
    assert not {each.budget_namespace for each in in_experiments} & DEFAULT_STORY.limited_namespaces


@pytest.mark.parametrize("tenant_id", ["northwind", "harbor-freight"])
@pytest.mark.parametrize("feature_id", [CODE, CHAT])
def test_only_the_burners_requests_carry_ballast(tenant_id: str, feature_id: str) -> None:
    quiet = _by_id(QUIET)
    for request_id, request in _by_id(replace(QUIET, burner=MarginBurner(tenant_id, feature_id))).items():
        burns = (request.tenant_id, request.feature_id) == (tenant_id, feature_id)
        assert request.tokens_in - quiet[request_id].tokens_in == (8_000 if burns else 0)


def test_only_the_treatment_of_the_costly_experiment_is_longer() -> None:
    quiet = _by_id(QUIET)
    for request_id, request in _by_id(replace(QUIET, costly=CostlyExperiment("polite-tone"))).items():
        treated = request.experiment_id == "polite-tone"
        before = quiet[request_id]
        assert request.tokens_in - before.tokens_in == (4_000 if treated else 0)
        assert request.tokens_out == min(before.tokens_out * (3 if treated else 1), 1_999)


@pytest.mark.parametrize("hour", [0, -1])
def test_only_the_feature_and_the_minutes_of_the_spike_swell(hour: int) -> None:
    story = replace(QUIET, spike=CostSpike(CODE, start_minute=10, minutes=5, hour=hour))
    quiet = _by_id(QUIET)
    start_us = THIN[0].arrival_us + hour * HOUR_US + 10 * 60_000_000
    swollen = 0
    for request_id, request in _by_id(story).items():
        inside = request.feature_id == CODE and start_us <= request.arrival_us < start_us + 5 * 60_000_000
        swollen += inside
        assert request.tokens_in - quiet[request_id].tokens_in == (8_000 if inside else 0)
    assert swollen


@pytest.mark.parametrize(
    "plant",
    [
        {"burner": MarginBurner("nobody", CODE)},
        {"burner": MarginBurner("northwind", "painting")},
        {"costly": CostlyExperiment("none-such")},
        {"outage": Outage("/nowhere", 0, 1)},
        {"unsafe": UnsafeRoute("/nowhere")},
        {"spike": CostSpike("painting", 0, 1)},
        {"spike": CostSpike(CODE, 0, 1, hour=-9)},
        {"deny": BudgetLimit("attic", 1.0)},
    ],
    ids="-".join,
)
def test_a_story_that_names_what_it_has_not_is_refused(plant: dict[str, object]) -> None:
    with pytest.raises(StoryError, match=next(iter(plant))):
        replace(QUIET, **plant)
