"""Every error that llmscope raises on purpose, in one tree.

    LlmscopeError
    ├── ConfigurationError (ValueError)   a route, tier, provider, model or setting that cannot be used
    ├── MalformedLine (ValueError)        a log line that is not one of ours, with the reason as a short code
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


class EventLogError(LlmscopeError, OSError):
    """The log could not be written; nothing of the line is left in the file."""


class LineTooLong(EventLogError):
    """The line exceeds the protocol's limit; readers would reject it, so it is refused."""


class ShortWrite(EventLogError):
    """The disk took only part of the line (usually: it is full). The part was cut back."""


class LogLockTimeout(EventLogError):
    """The lock stayed taken for longer than the caller was willing to wait."""
