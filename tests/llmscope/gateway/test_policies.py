"""Routes can be added, and one that could not serve a call is refused."""

from __future__ import annotations

from typing import Any

import pytest

from llmscope import (
    ConfigurationError,
    RoutePolicy,
    available_routes,
    get_model_for_tier,
    get_route_policy,
    register_route,
)

GOOD: dict[str, Any] = {
    "max_output_tokens": 2000, "retry_attempts": 1, "cache_enabled": False,
    "model_for_tier": {"cheap": "a", "golden": "b"}, "fallbacks": (("openai", "gpt-4o"),),
}  # fmt: skip


def test_a_registered_route_is_there() -> None:
    register_route("/mine", RoutePolicy(**GOOD))
    assert get_route_policy("/mine").max_output_tokens == 2000
    assert get_model_for_tier("/mine", "golden") == "b"
    assert "/mine" in available_routes()


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"max_output_tokens": 0}, "at least 1"),
        ({"retry_attempts": -1}, "0 or more"),
        ({"model_for_tier": {}}, "model_for_tier is empty"),
        ({"fallbacks": ("openai",)}, "not a .provider, model. pair"),
        ({"fallbacks": (("openai", ""),)}, "not a .provider, model. pair"),
    ],
)
def test_a_route_that_could_not_serve_a_call_is_refused(changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ConfigurationError, match=fragment):
        register_route("/mine", RoutePolicy(**{**GOOD, **changes}))
    assert "/mine" not in available_routes()


def test_a_route_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="needs a name"):
        register_route("", RoutePolicy(**GOOD))
