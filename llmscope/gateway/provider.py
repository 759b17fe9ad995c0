"""Providers: the contract, the registry, and the two that are built in.

A provider makes exactly one API call and says what its errors mean; retries, fallbacks, money and
telemetry are the gateway's. The vendors' SDKs are imported at the first call. What does not belong
here: the offline provider (`simulated`).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from llmscope.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from types import ModuleType

DEFAULT_TIMEOUT_SECONDS = 60.0

# Refused before the model saw anything: vendors bill none of these.
UNBILLED_CATEGORIES = frozenset({"auth_error", "rate_limit", "invalid_request"})


@dataclass(frozen=True)
class ProviderResponse:
    """One answer, normalised.

    Attributes:
        text: the answer.
        tokens_in: all input tokens, the cached ones included.
        tokens_out: all output tokens, reasoning included.
        finish_reason: why the answer ended: `stop`, `length`, `tool_calls`, `content_filter`, or the
            vendor's own word; None if it did not say.
        cache_read_tokens: how many of `tokens_in` the vendor had cached.
        usage_known: False when the vendor reported no token counts; the cost is then unknown, not 0.
    """

    text: str
    tokens_in: int
    tokens_out: int
    finish_reason: str | None = None
    cache_read_tokens: int = 0
    usage_known: bool = True


class ProviderBase(ABC):
    """What the gateway needs of a provider. Only the first two members must be written."""

    @property
    @abstractmethod
    def provider_name(self) -> str:
        """The name that stands in events and on spans: lower case, stable, without a version."""

    @abstractmethod
    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """Make one API call.

        Raises:
            Exception: whatever the SDK raises; callers of the gateway see it as it is.
        """

    def is_retryable(self, error: Exception) -> bool:  # noqa: ARG002  for subclasses
        """Whether the same call may succeed if made again. By default never: an unknown error may
        have been billed."""
        return False

    def categorize_error(self, error: Exception) -> str:  # noqa: ARG002  for subclasses
        """One of `auth_error`, `rate_limit`, `timeout`, `transient_error`, `invalid_request`, `unknown`."""
        return "unknown"

    def is_unbilled(self, error: Exception) -> bool:
        """Whether the failed attempt is known to cost nothing."""
        return is_known_unbilled(error, self.categorize_error(error))

    def retry_after_seconds(self, error: Exception) -> float | None:  # noqa: ARG002  for subclasses
        """How long the vendor asked to wait before the next attempt; None if it did not say."""
        return None


def is_known_unbilled(error: BaseException, category: str) -> bool:
    """Refused by the vendor, or never sent: its connection was refused or its host not found."""
    if category in UNBILLED_CATEGORIES:
        return True
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ConnectionRefusedError):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


class _SdkProvider(ABC):
    """What the vendors' SDKs have in common. Their clients are made at the first call of each event
    loop (a connection pool belongs to its loop), with the SDK's own retries off: they would multiply
    with the gateway's."""

    _sdk_name: str
    _key_variable: str

    def __init__(
        self,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._timeout_seconds = timeout_seconds
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    @abstractmethod
    def _sdk(self) -> ModuleType:
        """Import the SDK; raises ImportError where it is not installed."""

    @abstractmethod
    def _new_client(self, sdk: Any, **options: Any) -> Any:
        """A client of the SDK."""

    def _client(self) -> Any:
        from asyncio import get_running_loop  # noqa: PLC0415  loaded by who runs an event loop

        loop = get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            try:
                sdk = self._sdk()
            except ImportError as exc:
                raise ConfigurationError(
                    f"the {self._sdk_name} SDK is not installed: "
                    f"pip install 'llm-governance[{self._sdk_name}]'"
                ) from exc
            api_key = self._api_key or os.environ.get(self._key_variable)
            if not api_key:
                raise ConfigurationError(f"{self._key_variable} environment variable not set")
            client = self._clients[loop] = self._new_client(
                sdk,
                api_key=api_key,
                base_url=self._base_url,
                timeout=self._timeout_seconds,
                max_retries=0,
            )
        return client

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        from asyncio import get_running_loop  # noqa: PLC0415  loaded by who runs an event loop

        client = self._clients.pop(get_running_loop(), None)
        if client is not None:
            await client.close()

    def is_retryable(self, error: Exception) -> bool:
        """Rate limits, timeouts, failed connections and the vendor's own errors (5xx)."""
        return self.categorize_error(error) in {"rate_limit", "timeout", "transient_error"}

    def categorize_error(self, error: Exception) -> str:
        """See `ProviderBase.categorize_error`; a missing key or SDK is an `auth_error`."""
        if isinstance(error, ConfigurationError):
            return "auth_error"
        try:
            sdk: Any = self._sdk()
        except ImportError:
            return "unknown"
        if isinstance(error, (sdk.AuthenticationError, sdk.PermissionDeniedError)):
            return "auth_error"
        if isinstance(error, sdk.RateLimitError):
            return "rate_limit"
        if isinstance(error, sdk.APITimeoutError):  # a connection error too, so it comes first
            return "timeout"
        if isinstance(error, (sdk.APIConnectionError, sdk.InternalServerError)):
            return "transient_error"
        if isinstance(error, (sdk.BadRequestError, sdk.NotFoundError, sdk.UnprocessableEntityError)):
            return "invalid_request"
        return "unknown"

    def retry_after_seconds(self, error: Exception) -> float | None:
        """`retry-after-ms` or `Retry-After` of the vendor's response (RFC 9110, 10.2.3). A date there
        is taken relative to the response's own, so that no two clocks are compared."""
        from email.utils import parsedate_to_datetime  # noqa: PLC0415  a slow import for a rare error

        headers = getattr(getattr(error, "response", None), "headers", None)
        if headers is None:
            return None
        for name, seconds_per_unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            given = headers.get(name)
            if given is None:
                continue
            try:
                return max(0.0, float(given) * seconds_per_unit)
            except ValueError:
                pass
            try:
                wait = parsedate_to_datetime(given) - parsedate_to_datetime(headers.get("date", ""))
            except (ValueError, TypeError):
                continue
            return max(0.0, wait.total_seconds())
        return None


class OpenAIProvider(_SdkProvider, ProviderBase):
    """OpenAI's Responses API. The key is `api_key` or `OPENAI_API_KEY`, asked for at the first call."""

    _sdk_name = "openai"
    _key_variable = "OPENAI_API_KEY"

    @property
    def provider_name(self) -> str:
        return "openai"

    def _sdk(self) -> ModuleType:
        import openai  # noqa: PLC0415  0.9 s

        return openai

    def _new_client(self, sdk: Any, **options: Any) -> Any:
        return sdk.AsyncOpenAI(**options)

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """One answer. Cached tokens are part of `tokens_in`, reasoning part of `tokens_out`."""
        reply = await self._client().responses.create(
            model=model, input=prompt, max_output_tokens=max_output_tokens
        )
        usage = reply.usage
        details = getattr(usage, "input_tokens_details", None)
        return ProviderResponse(
            text=reply.output_text or "",
            tokens_in=usage.input_tokens if usage else 0,
            tokens_out=usage.output_tokens if usage else 0,
            finish_reason=_openai_finish_reason(reply),
            cache_read_tokens=getattr(details, "cached_tokens", None) or 0,
            usage_known=usage is not None,
        )


def _openai_finish_reason(reply: Any) -> str | None:
    if reply.status == "incomplete":
        reason = getattr(reply.incomplete_details, "reason", None)
        return "length" if reason == "max_output_tokens" else reason or "incomplete"
    if reply.status != "completed":
        return None if reply.status is None else str(reply.status)
    called_tool = any(getattr(item, "type", "").endswith("_call") for item in reply.output or ())
    return "tool_calls" if called_tool and not reply.output_text else "stop"


class AnthropicProvider(_SdkProvider, ProviderBase):
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
            # From 2.11 on the SDK makes spans of its own, which would double ours.
            return sdk.AsyncAnthropic(**options, open_telemetry=False)
        except TypeError:  # an older SDK, without spans and without that option
            return sdk.AsyncAnthropic(**options)

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """One answer. Anthropic counts cached input apart; here it is part of `tokens_in`, and tokens
        written into the cache are priced as plain input."""
        reply = await self._client().messages.create(
            model=model,
            max_tokens=max_output_tokens,
            messages=[{"role": "user", "content": prompt}],
        )
        usage = reply.usage
        cache_read = usage.cache_read_input_tokens or 0
        return ProviderResponse(
            text="".join(block.text for block in reply.content if block.type == "text"),
            tokens_in=usage.input_tokens + (usage.cache_creation_input_tokens or 0) + cache_read,
            tokens_out=usage.output_tokens,
            finish_reason=_ANTHROPIC_FINISH_REASONS.get(reply.stop_reason, reply.stop_reason),
            cache_read_tokens=cache_read,
        )


_ANTHROPIC_FINISH_REASONS = {"max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}

_registry: dict[str, ProviderBase] = {"openai": OpenAIProvider(), "anthropic": AnthropicProvider()}


def register_provider(name: str, provider: ProviderBase) -> None:
    """Make `provider` reachable as `name` for routes and fallbacks; a name taken is replaced."""
    _registry[name] = provider


def get_provider(name: str) -> ProviderBase:
    """The provider registered as `name`.

    Raises:
        ConfigurationError: there is none; the message lists those there are.
    """
    provider = _registry.get(name)
    if provider is None:
        raise ConfigurationError(
            f"Provider '{name}' is not registered. Registered: {', '.join(available_providers())}. "
            "Add it with llmscope.register_provider."
        )
    return provider


def available_providers() -> list[str]:
    """The names of all registered providers."""
    return list(_registry)
