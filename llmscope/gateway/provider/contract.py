"""What the gateway needs of a provider, and what a provider answers.

What does not belong here: any vendor (`sdk` and the modules that use it), which providers there are
(`registry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass

from llmscope.errors import AnswerFailed

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
        usage_known: False when the vendor reported no token counts, or counts that contradict each
            other; the cost is then unknown, not 0.
        cache_write_tokens: how many of `tokens_in` the vendor wrote into its cache.
        reasoning_tokens: how many of `tokens_out` the model thought rather than said.
        cache_write_1h_tokens: how many of `cache_write_tokens` the vendor keeps for an hour.
    """

    text: str
    tokens_in: int
    tokens_out: int
    finish_reason: str | None = None
    cache_read_tokens: int = 0
    usage_known: bool = True
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0


@dataclass(frozen=True, slots=True)
class InputUsage:
    """The input of a streamed answer, from a vendor that counts it before the first word. The fields are
    those of `ProviderResponse`."""

    tokens_in: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0


StreamItem = str | InputUsage | ProviderResponse
"""What a stream consists of: pieces of text; perhaps, once and before the first of them, what the input
was; and as the last item the whole answer."""


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

    async def stream(self, prompt: str, model: str, max_output_tokens: int) -> AsyncIterator[StreamItem]:
        """Make one API call whose answer arrives in pieces; see `StreamItem`.

        A provider that does not stream answers in one piece. Who leaves early must call `aclose()`: it
        closes the connection, which is how a vendor learns to stop generating.

        Raises:
            Exception: see `complete`; `AnswerFailed` too when the answer stops before its end.
        """
        response = await self.complete(prompt, model, max_output_tokens)
        if response.text:
            yield response.text
        yield response

    def is_retryable(self, error: Exception) -> bool:  # noqa: ARG002  for subclasses
        """Whether the same call may succeed if made again. By default never: an unknown error may
        have been billed."""
        return False

    def categorize_error(self, error: Exception) -> str:
        """One of `auth_error`, `rate_limit`, `timeout`, `transient_error`, `invalid_request`, `unknown`."""
        return error.category if isinstance(error, AnswerFailed) else "unknown"

    def is_unbilled(self, error: Exception) -> bool:
        """Whether the failed attempt is known to cost nothing."""
        return is_known_unbilled(error, self.categorize_error(error))

    def retry_after_seconds(self, error: Exception) -> float | None:  # noqa: ARG002  for subclasses
        """How long the vendor asked to wait before the next attempt; None if it did not say."""
        return None


def is_known_unbilled(error: BaseException, category: str) -> bool:
    """Refused by the vendor, or never sent: its connection was refused or its host not found."""
    return category in UNBILLED_CATEGORIES or _never_connected(error)


def _never_connected(error: BaseException) -> bool:
    """Whether at the bottom of `error` no connection came about.

    Several addresses of one host are tried at once, and what each of them said comes as a group: then
    every one must have refused. A timeout or a broken connection ends the search, for what Python chains
    behind it may be an error that the caller was handling before.
    """
    from socket import gaierror  # noqa: PLC0415  for a rare error

    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, (ConnectionRefusedError, gaierror)):
            return True
        if isinstance(cause, BaseExceptionGroup):
            return all(_never_connected(member) for member in cause.exceptions)
        if isinstance(cause, (TimeoutError, ConnectionError)):
            return False
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False
