"""Every error that llmscope raises on purpose, in one tree.

    LlmscopeError
    ├── ConfigurationError (ValueError)   a route, tier, provider, model or setting that cannot be used
    ├── MalformedLine (ValueError)        a log line that is not one of ours, with the reason as a short code
    ├── ContextTooLargeError (ValueError) a prompt over its route's budget, whatever the strategy leaves out
    ├── AnswerFailed                      an answer that is none: garbled, cut off, or saying that it failed
    ├── GuardBlocked                      a guard refused a prompt or an answer
    ├── StreamNotFinished                 the result of a stream was asked for before its last piece was read
    ├── CircuitOpen                       every provider that could be asked is being left alone
    ├── DeadlineExceeded (TimeoutError)   the caller's whole wait was used up
    ├── AdvanceRefused                    a canary is not advanced by hand: it burns, or is promoted already
    └── EventLogError (OSError)           the log could not be written
        ├── LineTooLong                   a line over the limit of the protocol
        ├── ShortWrite                    the disk took only part of a line; the part was cut back
        └── LogLockTimeout                another process held the lock for longer than the caller would wait

What does not belong here: errors of vendor SDKs, which callers see as they are.
"""

from __future__ import annotations


class LlmscopeError(Exception):
    """Root of the tree."""


class ConfigurationError(LlmscopeError, ValueError):
    """A name or value that cannot be used; the message says which are possible."""


class MalformedLine(LlmscopeError, ValueError):
    """A log line that becomes a reject. `reason` is one of the codes in docs/semantics.md."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class ContextTooLargeError(LlmscopeError, ValueError):
    """A prompt does not fit. `tokens` is its estimated length, `max_tokens` the route's budget."""

    def __init__(self, tokens: int, max_tokens: int, strategy: str) -> None:
        super().__init__(
            f"about {tokens:,} tokens of context, the budget is {max_tokens:,} (strategy: {strategy}). "
            "Send less, raise the route's max_context_tokens, or choose a strategy that leaves more out."
        )
        self.tokens = tokens
        self.max_tokens = max_tokens
        self.strategy = strategy


class AnswerFailed(LlmscopeError):
    """A provider began to answer, but it is no answer. `category` is what it counts as for retries and
    fallbacks (see `ProviderBase.categorize_error`); the vendor's own words are not repeated."""

    def __init__(self, provider: str, reason: str, category: str = "transient_error") -> None:
        super().__init__(f"the answer of provider {provider!r} cannot be used: {reason}")
        self.provider = provider
        self.reason = reason
        self.category = category


class GuardBlocked(LlmscopeError):
    """A guard refused a text. `direction` is `in` (nothing was sent) or `out` (the answer was paid for),
    `classes` are the kinds of what was found, never the text."""

    def __init__(self, direction: str, classes: tuple[str, ...]) -> None:
        what = "prompt" if direction == "in" else "answer"
        super().__init__(f"the {what} was blocked by a guard: {', '.join(classes)}")
        self.direction = direction
        self.classes = classes


class StreamNotFinished(LlmscopeError):
    """There is no result: the last piece of the answer has not been read, or the answer was cut."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"the stream of request {request_id} has no result: read it to its last piece first "
            "(an answer that was cut has none)"
        )
        self.request_id = request_id


class CircuitOpen(LlmscopeError):
    """No attempt was made: the circuit of `provider` is open, and nothing else was left to ask."""

    def __init__(self, provider: str) -> None:
        super().__init__(f"the circuit of provider {provider!r} is open and no fallback is left")
        self.provider = provider


class DeadlineExceeded(LlmscopeError, TimeoutError):
    """The caller has waited `deadline_seconds`; nothing more is tried."""

    def __init__(self, deadline_seconds: float) -> None:
        super().__init__(f"no answer within the route's deadline of {deadline_seconds:g} s")
        self.deadline_seconds = deadline_seconds


class AdvanceRefused(LlmscopeError):
    """A canary was not advanced by hand; the message says why, and how to do it all the same."""


class EventLogError(LlmscopeError, OSError):
    """The log could not be written; nothing of the line is left in the file."""


class LineTooLong(EventLogError):
    """The line exceeds the protocol's limit; readers would reject it, so it is refused."""


class ShortWrite(EventLogError):
    """The disk took only part of the line (usually: it is full). The part was cut back."""


class LogLockTimeout(EventLogError):
    """The lock stayed taken for longer than the caller was willing to wait."""
