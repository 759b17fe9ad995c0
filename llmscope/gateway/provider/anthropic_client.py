"""Anthropic's Messages API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from llmscope.errors import AnswerFailed
from llmscope.gateway.provider.contract import InputUsage, ProviderResponse, StreamItem
from llmscope.gateway.provider.sdk import SdkProvider, events_of, garbled_as_failed
from llmscope.gateway.provider.usage import anthropic_usage, finish_reason_of, read

if TYPE_CHECKING:
    from types import ModuleType


class AnthropicProvider(SdkProvider):
    """Anthropic's Messages API. The key is `api_key` or `ANTHROPIC_API_KEY`, asked for at the first call."""

    _sdk_name = "anthropic"
    _key_variable = "ANTHROPIC_API_KEY"

    @property
    def provider_name(self) -> str:
        return "anthropic"

    def _sdk(self) -> ModuleType:
        import anthropic  # noqa: PLC0415  2.3 s

        return anthropic

    def _new_client(self, sdk: Any, **options: Any) -> Any:
        try:
            # From 2.11 on the SDK makes spans of its own, which would double ours. Its `traceparent`
            # header goes with them. Said here it beats ANTHROPIC_OPEN_TELEMETRY, for this client only.
            return sdk.AsyncAnthropic(**options, open_telemetry=False)
        except TypeError:  # an older SDK, without spans and without that option
            return sdk.AsyncAnthropic(**options)

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """One answer. Anthropic counts cached and cache-written input apart; here both are part of
        `tokens_in`."""
        call = self._client().messages.create(**_request(prompt, model, max_output_tokens))
        reply = await garbled_as_failed(self.provider_name, call)
        content = read(reply, "content")
        if not isinstance(content, list):
            raise AnswerFailed(self.provider_name, "it has no content")
        texts = (read(block, "text") for block in content if read(block, "type") == "text")
        return ProviderResponse(
            text="".join(text for text in texts if isinstance(text, str)),
            finish_reason=finish_reason_of(read(reply, "stop_reason")),
            **anthropic_usage(read(reply, "usage")).fields(),
        )

    async def stream(self, prompt: str, model: str, max_output_tokens: int) -> AsyncIterator[StreamItem]:
        """One answer in pieces; see `ProviderBase.stream`. The input is counted before the first."""
        pieces: list[str] = []
        reports: list[object] = []
        reason: object = None
        received = await self._client().messages.create(
            **_request(prompt, model, max_output_tokens), stream=True
        )
        async with aclosing(events_of(self.provider_name, received)) as events:
            async for event in events:
                kind, delta = read(event, "type"), read(event, "delta")
                if kind == "message_start":
                    reports.append(read(read(event, "message"), "usage"))
                    known = anthropic_usage(*reports)
                    if known.usage_known:
                        yield InputUsage(
                            known.tokens_in,
                            known.cache_read_tokens,
                            known.cache_write_tokens,
                            known.cache_write_1h_tokens,
                        )
                elif kind == "content_block_delta" and read(delta, "type") == "text_delta":
                    piece = read(delta, "text")
                    if isinstance(piece, str) and piece:
                        pieces.append(piece)
                        yield piece
                elif kind == "message_delta":
                    reports.append(read(event, "usage"))
                    reason = read(delta, "stop_reason") or reason
                elif kind == "message_stop":
                    yield ProviderResponse(
                        text="".join(pieces),
                        finish_reason=finish_reason_of(reason),
                        **anthropic_usage(*reports).fields(),
                    )
                    return
        raise AnswerFailed(self.provider_name, "it stops before its end")


def _request(prompt: str, model: str, max_output_tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "max_tokens": max_output_tokens, "messages": messages}
