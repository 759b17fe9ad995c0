"""Cheap first; the user's judge says when that will not do."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from llmscope.errors import ConfigurationError
from llmscope.gateway.routing import CascadeRouter, QualityEscalation
from tests.llmscope.gateway.routing.requests_and_targets import GPT_4O, HAIKU, MINI, UNPRICED, request


def planted_quality(prompt: str, answer: str) -> float:
    return float(answer.rsplit("=", 1)[1])


async def thoughtful_quality(prompt: str, answer: str) -> float:
    await asyncio.sleep(0)
    return planted_quality(prompt, answer)


def test_the_steps_go_up_by_price() -> None:
    choice = CascadeRouter([GPT_4O, UNPRICED, HAIKU, MINI]).choose(request(), 0.0)
    assert choice.targets == (MINI, HAIKU, GPT_4O, UNPRICED)
    assert choice.decision == "cascade"


@pytest.mark.parametrize("estimator", [planted_quality, thoughtful_quality])
@pytest.mark.parametrize(
    ("quality", "will_do"), [(0.69, False), (0.7, True), (0.71, True), (-math.inf, False)]
)
async def test_an_answer_will_do_from_the_threshold_on(estimator: Any, quality: float, will_do: bool) -> None:
    assert await QualityEscalation(estimator).is_good_enough("?", f"quality={quality}") is will_do


@pytest.mark.parametrize("estimator", [planted_quality, thoughtful_quality])
async def test_simulation_the_cascade_climbs_on_planted_bad_answers_and_no_further(estimator: Any) -> None:
    """Every third answer of the cheapest is bad, and every second of the next; the last is always kept."""
    router, escalation = CascadeRouter([GPT_4O, HAIKU, MINI]), QualityEscalation(estimator, 0.7)
    kept = {MINI: 0, HAIKU: 0, GPT_4O: 0}
    for number in range(300):
        quality = {MINI: 0.2 if number % 3 == 0 else 0.9, HAIKU: 0.2 if number % 2 == 0 else 0.9, GPT_4O: 0.1}
        targets = router.choose(request(f"r{number}"), 0.0).targets
        for target in targets:
            is_last = target == targets[-1]
            if is_last or await escalation.is_good_enough("?", f"quality={quality[target]}"):
                kept[target] += 1
                break
    assert kept == {MINI: 200, HAIKU: 50, GPT_4O: 50}


async def test_a_judge_that_always_nods_never_climbs() -> None:
    """The twin of the simulation: with a threshold of 0 the bad answers are kept."""
    escalation = QualityEscalation(planted_quality, 0.0)
    assert await escalation.is_good_enough("?", "quality=0.2") is True


async def test_what_the_judge_raises_is_the_callers_to_see() -> None:
    def broken(prompt: str, answer: str) -> float:
        raise RuntimeError("no judge today")

    with pytest.raises(RuntimeError, match="no judge today"):
        await QualityEscalation(broken).is_good_enough("?", "!")


@pytest.mark.parametrize("estimate", [None, math.nan, "the whole secret answer"])
async def test_an_estimate_that_is_no_number_is_an_error_that_quotes_nothing(estimate: Any) -> None:
    with pytest.raises(ConfigurationError, match="no number") as raised:
        await QualityEscalation(lambda prompt, answer: estimate).is_good_enough("?", "!")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("estimator", "threshold", "fragment"),
    [("not callable", 0.7, "cannot be called"), (planted_quality, math.nan, "finite number")],
)
def test_an_escalation_that_could_not_judge_is_refused(
    estimator: Any, threshold: float, fragment: str
) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        QualityEscalation(estimator, threshold)
