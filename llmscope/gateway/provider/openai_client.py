"""OpenAI, and servers that speak its chat completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from llmscope.errors import ConfigurationError
from llmscope.gateway.provider import openai_chat, openai_responses
from llmscope.gateway.provider.contract import ProviderResponse, StreamItem
from llmscope.gateway.provider.sdk import DEFAULT_TIMEOUT_SECONDS, SdkProvider

if TYPE_CHECKING:
    from types import ModuleType

OutputLimitField = Literal["max_tokens", "max_completion_tokens"]


class _OpenAISdkProvider(SdkProvider):
    _sdk_name = "openai"
    _key_variable = "OPENAI_API_KEY"

    def _sdk(self) -> ModuleType:
        import openai  # noqa: PLC0415  0.9 s

        return openai

    def _new_client(self, sdk: Any, **options: Any) -> Any:
        return sdk.AsyncOpenAI(**options)


class OpenAIProvider(_OpenAISdkProvider):
    """OpenAI. The key is `api_key` or `OPENAI_API_KEY`, asked for at the first call.

    Args:
        api: `responses` (the Responses API) or `chat` (chat completions).
        timeout_seconds: for connecting, and between any two pieces of what is received.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        api: Literal["responses", "chat"] = "responses",
    ) -> None:
        super().__init__(api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds)
        if api not in {"responses", "chat"}:
            raise ConfigurationError(f"api is {api!r}; OpenAI has 'responses' and 'chat'")
        self._api = api

    @property
    def provider_name(self) -> str:
        return "openai"

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """One answer. Cached tokens are part of `tokens_in`, reasoning part of `tokens_out`."""
        client = self._client()
        if self._api == "responses":
            request = {"model": model, "input": prompt, "max_output_tokens": max_output_tokens}
            return await openai_responses.complete(client, self.provider_name, request)
        request = chat_request(prompt, model, max_output_tokens, "max_completion_tokens")
        return await openai_chat.complete(client, self.provider_name, request)

    async def stream(self, prompt: str, model: str, max_output_tokens: int) -> AsyncIterator[StreamItem]:
        """One answer in pieces; see `ProviderBase.stream`."""
        client = self._client()
        if self._api == "responses":
            request = {"model": model, "input": prompt, "max_output_tokens": max_output_tokens}
            items = openai_responses.stream(client, self.provider_name, request)
        else:
            request = chat_request(prompt, model, max_output_tokens, "max_completion_tokens")
            request["stream_options"] = {"include_usage": True}
            items = openai_chat.stream(client, self.provider_name, request)
        async with aclosing(items):
            async for item in items:
                yield item


class OpenAICompatibleProvider(_OpenAISdkProvider):
    """A server that speaks OpenAI's chat completions: vLLM, llama.cpp, Ollama, and many vendors.

    Args:
        name: its name in routes, events, statistics and prices.
        base_url: where it is, up to and including the `/v1` that most of them have.
        api_key: if the server wants one. Without it a placeholder is sent, never `OPENAI_API_KEY`.
        timeout_seconds: for connecting, and between any two pieces of what is received. A model that is
            loaded at the first request may need more than the default.
        output_limit_field: what the server calls the longest answer. Most know `max_tokens`.
        stream_usage: ask for token counts in a stream (`stream_options.include_usage`). Turn it off for
            a server that refuses the question; the cost of its streams is then unknown.

    Raises:
        ConfigurationError: no name, a base URL that is none, or an unknown `output_limit_field`.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        *,
        output_limit_field: OutputLimitField = "max_tokens",
        stream_usage: bool = True,
    ) -> None:
        super().__init__(api_key=api_key, base_url=base_url, timeout_seconds=timeout_seconds)
        if not name or name != name.strip():
            raise ConfigurationError(f"a provider needs a name without blanks around it, not {name!r}")
        if not base_url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"provider {name!r}: the base URL {base_url!r} starts with neither http:// nor https://"
            )
        if output_limit_field not in {"max_tokens", "max_completion_tokens"}:
            raise ConfigurationError(
                f"provider {name!r}: output_limit_field is {output_limit_field!r}; "
                "give max_tokens or max_completion_tokens"
            )
        self._name = name
        self._output_limit_field: OutputLimitField = output_limit_field
        self._stream_usage = stream_usage

    @property
    def provider_name(self) -> str:
        return self._name

    def _key(self) -> str:
        return self._api_key or "no-key-needed"

    def _new_client(self, sdk: Any, **options: Any) -> Any:
        client = super()._new_client(sdk, **options)
        # Read from the environment, and none of this server's business.
        client.organization = client.project = None
        return client

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """One answer, normalised as far as the server tells."""
        request = chat_request(prompt, model, max_output_tokens, self._output_limit_field)
        return await openai_chat.complete(self._client(), self._name, request)

    async def stream(self, prompt: str, model: str, max_output_tokens: int) -> AsyncIterator[StreamItem]:
        """One answer in pieces; see `ProviderBase.stream`."""
        request = chat_request(prompt, model, max_output_tokens, self._output_limit_field)
        if self._stream_usage:
            request["stream_options"] = {"include_usage": True}
        async with aclosing(openai_chat.stream(self._client(), self._name, request)) as items:
            async for item in items:
                yield item


def chat_request(
    prompt: str, model: str, max_output_tokens: int, limit_field: OutputLimitField
) -> dict[str, Any]:
    """The arguments of `chat.completions.create`. OpenAI's reasoning models refuse `max_tokens`."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "messages": messages, limit_field: max_output_tokens}
