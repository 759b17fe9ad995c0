"""A stand-in for LiteLLM, which is no dependency and not installed: its hooks, called as it documents them.

From docs.litellm.ai, “Custom Callbacks” and “Modify / Reject Incoming Requests” (November 2026), and the
public source of its proxy: the pre-call hook may change `data`; the call's metadata comes back in
`kwargs["litellm_params"]["metadata"]`; every failed attempt is a failure event, told before the next
attempt begins; success is told once; when all attempts have failed, or the hook itself raised,
`async_post_call_failure_hook` runs once and the client gets the exception's `status_code`.
Calls go to a real server through the OpenAI SDK, whose chat replies have LiteLLM's shape.
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import openai
import pytest


class CustomLogger:
    """The hooks that the recipe overrides."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any] | None:
        return data

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None: ...

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None: ...

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None: ...

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None: ...

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None: ...


@dataclass
class UserAPIKeyAuth:
    """Who a proxy key belongs to."""

    team_id: str | None = None
    user_id: str | None = None


def install(monkeypatch: pytest.MonkeyPatch, base_url: str) -> None:
    """Make `import litellm` find the stand-in for the length of a test."""
    litellm = types.ModuleType("litellm")
    integrations = types.ModuleType("litellm.integrations")
    custom_logger = types.ModuleType("litellm.integrations.custom_logger")
    custom_logger.CustomLogger = CustomLogger  # type: ignore[attr-defined]

    def completion(num_retries: int = 0, **sent: Any) -> Any:
        with openai.OpenAI(base_url=base_url, api_key="sk-test", max_retries=num_retries) as client:
            return client.chat.completions.create(**sent)

    litellm.completion = completion  # type: ignore[attr-defined]
    for module in (litellm, integrations, custom_logger):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@dataclass
class Proxy:
    """One route of the proxy: the hook, then each deployment in turn until one answers.

    Attributes:
        deployments: the base URLs tried in order, as its router retries and falls back.
        response_cost: what it says a call cost; it says 0 for models it has no price for.
    """

    callback: Any
    deployments: list[str]
    response_cost: float | None = None
    cache_hit: bool = False

    async def chat(self, data: dict[str, Any], key: UserAPIKeyAuth, call_type: str = "acompletion") -> Any:
        """Serve one request.

        Raises:
            Exception: the last attempt's, or the hook's, as the proxy would turn it into a response.
        """
        try:
            data = await self.callback.async_pre_call_hook(key, None, data, call_type) or data
            return await self._routed(data)
        except Exception as exc:
            await self.callback.async_post_call_failure_hook(data, exc, key, "traceback")
            raise

    async def _routed(self, data: dict[str, Any]) -> Any:
        last: Exception | None = None
        for base_url in self.deployments:
            started = datetime.now(UTC)
            kwargs: dict[str, Any] = {
                "model": data["model"],
                "messages": data["messages"],
                "litellm_params": {"metadata": dict(data["metadata"])},
            }
            sent = {name: value for name, value in data.items() if name != "metadata"}
            try:
                async with openai.AsyncOpenAI(
                    base_url=base_url, api_key="sk-test", max_retries=0, timeout=5
                ) as client:
                    reply = await client.chat.completions.create(**sent)
            except openai.APIError as exc:
                kwargs |= {"exception": exc, "log_event_type": "failed_api_call"}
                self.callback.log_failure_event(kwargs, None, started, datetime.now(UTC))
                await self.callback.async_log_failure_event(kwargs, None, started, datetime.now(UTC))
                last = exc
                continue
            kwargs |= {
                "log_event_type": "successful_api_call",
                "response_cost": self.response_cost,
                "cache_hit": self.cache_hit,
            }
            await self.callback.async_log_success_event(kwargs, reply, started, datetime.now(UTC))
            return reply
        assert last is not None
        raise last
