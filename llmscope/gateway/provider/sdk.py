"""What the vendors' SDKs have in common: their clients, what their errors mean, their event streams.

What does not belong here: what a vendor's answer says (`openai_responses`, `openai_chat`,
`anthropic_client`).
"""

from __future__ import annotations

import json
import os
import sys
from abc import abstractmethod
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from llmscope.errors import AnswerFailed, ConfigurationError
from llmscope.gateway.provider.contract import ProviderBase
from llmscope.gateway.provider.usage import read

if TYPE_CHECKING:
    import asyncio
    from types import ModuleType

DEFAULT_TIMEOUT_SECONDS = 60.0

_CATEGORY_OF_STATUS = {
    400: "invalid_request",
    401: "auth_error",
    402: "auth_error",
    403: "auth_error",
    404: "invalid_request",
    408: "timeout",
    409: "transient_error",
    413: "invalid_request",
    422: "invalid_request",
    429: "rate_limit",
}

# What vendors call the failure when they tell of it inside an answer that began as a success.
_CATEGORY_OF_CODE = {
    "authentication_error": "auth_error",
    "billing_error": "auth_error",
    "permission_error": "auth_error",
    "context_length_exceeded": "invalid_request",
    "invalid_prompt": "invalid_request",
    "invalid_request_error": "invalid_request",
    "not_found_error": "invalid_request",
    "request_too_large": "invalid_request",
    "insufficient_quota": "rate_limit",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "timeout_error": "timeout",
}


# SDKs let these through as they are.
_NO_JSON = (json.JSONDecodeError, UnicodeDecodeError)


def failed_answer(provider: str, error: object) -> AnswerFailed:
    """The error for an answer that says it failed; of `error` only its code is told, never its message."""
    codes = [code for name in ("code", "type") if isinstance(code := read(error, name), str)]
    known = next((code for code in codes if code in _CATEGORY_OF_CODE), None)
    category = "transient_error" if known is None else _CATEGORY_OF_CODE[known]
    return AnswerFailed(provider, f"it says that it failed ({known or 'no known code'})", category)


class SdkProvider(ProviderBase):
    """A provider behind a vendor's SDK.

    Its clients are made at the first call of each event loop (a connection pool belongs to its loop),
    with the SDK's own retries off: they would multiply with the gateway's.

    Args:
        api_key: instead of the one in the environment.
        base_url: instead of the vendor's own address.
        timeout_seconds: for connecting, and between any two pieces of what is received.
    """

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

    def _key(self) -> str:
        key = self._api_key or os.environ.get(self._key_variable)
        if not key:
            raise ConfigurationError(f"{self._key_variable} environment variable not set")
        return key

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
            client = self._clients[loop] = self._new_client(
                sdk,
                api_key=self._key(),
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
        """Rate limits, timeouts, failed connections, garbled answers and the vendor's own errors (5xx)."""
        return self.categorize_error(error) in {"rate_limit", "timeout", "transient_error"}

    def categorize_error(self, error: Exception) -> str:
        """See `ProviderBase.categorize_error`; a missing key or SDK is an `auth_error`."""
        if isinstance(error, ConfigurationError):
            return "auth_error"
        if isinstance(error, AnswerFailed):
            return error.category
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return _CATEGORY_OF_STATUS.get(status, "transient_error" if status >= 500 else "unknown")
        if isinstance(
            error, (TimeoutError, *_classes("APITimeoutError", "TimeoutException", of=self._sdk_name))
        ):
            return "timeout"
        if isinstance(error, _classes("APIConnectionError", "TransportError", of=self._sdk_name)):
            return "transient_error"
        if isinstance(error, _classes("APIError", of=self._sdk_name)):
            body = getattr(error, "body", None)
            return failed_answer(self.provider_name, read(body, "error") or body).category
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


def _classes(*names: str, of: str) -> tuple[type[BaseException], ...]:
    """The classes of these names in an SDK and in the HTTP libraries below it, as far as they are loaded:
    an error of a class that is not cannot exist. Reading a stream, some SDKs let the HTTP library's own
    errors through."""
    modules = [sys.modules.get(name) for name in (of, "httpx2", "httpx")]
    return tuple(
        found
        for module in modules
        for name in names
        if isinstance(found := getattr(module, name, None), type)
    )


async def garbled_as_failed(provider: str, call: Any) -> Any:
    """Await an SDK's call; a body that is no JSON becomes `AnswerFailed`."""
    try:
        return await call
    except _NO_JSON as exc:
        raise AnswerFailed(provider, "it is no JSON") from exc


async def events_of(provider: str, stream: Any) -> AsyncGenerator[Any, None]:
    """The events of an SDK's stream. However the iteration ends, the connection is closed.

    Raises:
        AnswerFailed: an event is no JSON.
    """
    async with stream:
        try:
            async for event in stream:
                yield event
        except _NO_JSON as exc:
            raise AnswerFailed(provider, "an event of it is no JSON") from exc
