"""What a policy can be told, a runtime.yaml can tell it, and docs/routing.md tells the reader."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from llmscope.gateway.routing import (
    CanaryRouter,
    CascadeRouter,
    CheapestRouter,
    FastestP95Router,
    SloBurnRouter,
)
from llmscope.gateway.runtime_sections import (
    CanarySection,
    CascadeSection,
    CheapestSection,
    FastestSection,
    SloBurnSection,
)

DOCS = Path(__file__).parents[4] / "docs" / "routing.md"
# `provider_name` is the route's own; draws and the chance of error are for programs.
NOT_IN_FILES = {"self", "provider_name", "seed", "chance_of_false_rollback"}
POLICIES = [
    (CheapestRouter, CheapestSection),
    (FastestP95Router, FastestSection),
    (SloBurnRouter, SloBurnSection),
    (CanaryRouter, CanarySection),
    (CascadeRouter, CascadeSection),
]


def options_of(router: Any) -> set[str]:
    return set(inspect.signature(router.__init__).parameters) - NOT_IN_FILES


@pytest.mark.parametrize(("router", "section"), POLICIES)
def test_every_option_of_a_policy_can_be_set_in_a_file(router: Any, section: Any) -> None:
    of_the_file_alone = {"policy", "quality_estimator", "threshold"}
    assert options_of(router) == set(section.model_fields) - of_the_file_alone


@pytest.mark.parametrize(("router", "section"), POLICIES)
def test_every_option_is_in_the_documentation(router: Any, section: Any) -> None:
    text = DOCS.read_text(encoding="utf-8")
    for option in options_of(router) - {"candidates"}:
        assert f"`{option}`" in text, option
