"""Where a request may go: its tier, the model it names, or anywhere for `auto`."""

from __future__ import annotations

from typing import Any

import pytest

from llmscope.errors import ConfigurationError
from llmscope.gateway.routing import CascadeRouter, CheapestRouter, FastestP95Router, SloBurnRouter
from llmscope.gateway.routing.candidates import Candidates
from llmscope.gateway.stages import Target
from tests.llmscope.gateway.routing.requests_and_targets import GPT_4O, HAIKU, MINI, request

AZURE = Target("azure", "gpt-4o")
BY_TIER = {"cheap": [HAIKU, MINI], "expensive": [GPT_4O, AZURE]}
POLICIES = [CheapestRouter, CascadeRouter, FastestP95Router, SloBurnRouter]


def test_a_tier_has_its_own_candidates() -> None:
    assert Candidates(BY_TIER).eligible(request(tier="cheap")) == (HAIKU, MINI)
    assert Candidates(BY_TIER).eligible(request(tier="expensive")) == (GPT_4O, AZURE)


def test_a_plain_list_serves_every_tier() -> None:
    assert Candidates([MINI, GPT_4O]).eligible(request(tier="whatever")) == (MINI, GPT_4O)


def test_auto_is_any_candidate_of_any_tier() -> None:
    assert Candidates(BY_TIER).eligible(request(model="auto")) == (HAIKU, MINI, GPT_4O, AZURE)


def test_an_explicit_model_goes_to_those_that_serve_it_only() -> None:
    assert Candidates(BY_TIER).eligible(request(tier="cheap", model="gpt-4o")) == (GPT_4O, AZURE)


@pytest.mark.parametrize(("given", "provider"), [(None, "anthropic"), ("vllm", "vllm")])
def test_a_model_that_no_candidate_serves_goes_to_the_routes_own_provider(
    given: str | None, provider: str
) -> None:
    candidates = Candidates(BY_TIER, provider_name=given)
    assert candidates.eligible(request(model="o-something")) == (Target(provider, "o-something"),)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_respects_tier_model_and_auto(policy: Any) -> None:
    """The forerunner's fastest_p95 ignored the model; its cheapest fell back to the model ""."""
    router = policy(BY_TIER, provider_name="vllm")
    for number in range(50):
        name = f"r{number}"
        assert set(router.choose(request(name, tier="expensive"), 1.0).targets) == {GPT_4O, AZURE}
        assert router.choose(request(name, model="gpt-4o-mini"), 1.0).targets == (MINI,)
        assert set(router.choose(request(name, model="auto"), 1.0).targets) == {HAIKU, MINI, GPT_4O, AZURE}
        assert router.choose(request(name, model="x"), 1.0).targets == (Target("vllm", "x"),)


@pytest.mark.parametrize("policy", POLICIES)
def test_one_provider_is_enough(policy: Any) -> None:
    choice = policy([MINI]).choose(request(), 0.0)
    assert choice.targets == (MINI,)
    assert choice.decision == policy.decision
    assert "only target" in choice.reason


def test_a_tier_without_candidates_is_an_error_that_names_those_with() -> None:
    with pytest.raises(ConfigurationError, match=r"'golden' has no routing candidates.*cheap, expensive"):
        Candidates(BY_TIER).eligible(request(tier="golden"))


@pytest.mark.parametrize(
    ("targets", "fragment"),
    [
        ([], "has no candidates"),
        ({}, "no tier has candidates"),
        ({"cheap": []}, "tier 'cheap' has no candidates"),
        ([MINI, MINI], "names openai/gpt-4o-mini twice"),
        ([("openai", "gpt-4o")], "is no Target"),
        ([Target("", "gpt-4o")], "lacks a provider or a model"),
    ],
)
def test_candidates_that_could_not_serve_are_refused_at_construction(targets: Any, fragment: str) -> None:
    for policy in POLICIES:
        with pytest.raises(ConfigurationError, match=fragment):
            policy(targets)
