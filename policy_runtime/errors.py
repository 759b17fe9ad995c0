"""Every error that policy_runtime raises on purpose, in one tree.

PolicyRuntimeError
├── PolicyFileError (ValueError)   a policy file that cannot be enforced as written: file, line, rule, fix
├── SettingsError (ValueError)     a setting that names something missing or contradictory
├── PolicyDenied                   this call must not be made (402; 429 for a rate limit)
├── AlreadySettled                 an admission or request was settled before
└── GateUnavailable (OSError)      a decision could not be written and the policy says to deny then, or
                                   what is asked for cannot be read
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policy_runtime.decision_record import DecisionRecord


class PolicyRuntimeError(Exception):
    """Root of the tree."""


class PolicyFileError(PolicyRuntimeError, ValueError):
    """A policy file that cannot be enforced as written."""


class SettingsError(PolicyRuntimeError, ValueError):
    """A setting that names something missing or contradicts another."""


class AlreadySettled(PolicyRuntimeError):
    """The request was settled before; a second bill would be a contradiction."""


class UnknownRequest(PolicyRuntimeError, LookupError):
    """No admission of that id is known within the longest window."""


class RequestIdReused(PolicyRuntimeError, ValueError):
    """A second call under one request id would escape its budget."""


class NotEntered(PolicyRuntimeError):
    """The decision is made on entering the block; before that there is none."""


class GateUnavailable(PolicyRuntimeError, OSError):
    """No decision could be recorded, and the policy says to deny in that case; or the logs that would tell
    what is asked for cannot be read."""


class PolicyDenied(PolicyRuntimeError):
    """The gate denied the call; the decision is on disk already.

    Attributes:
        record: the decision as written.
        status_code: 402, or 429 when a rate limit denied.
        retry_after_seconds: when to try again, for a rate limit; else None.
    """

    def __init__(self, record: DecisionRecord, retry_after_seconds: float | None = None) -> None:
        self.record = record
        self.retry_after_seconds = retry_after_seconds
        self.status_code = 429 if record.primitive == "rate_limit" else 402
        if record.policy_id is None:  # no rule denies a namespace that the policy does not list
            said = (
                f"denied: the policy lists no budget namespace {record.budget_namespace!r}: {record.reason}"
            )
        else:
            said = (
                f"denied by rule {record.policy_id} ({record.primitive}) of budget namespace "
                f"{record.charged_namespace or record.budget_namespace or 'default'}: {record.reason}"
            )
        super().__init__(said)

    def problem(self) -> dict[str, Any]:
        """The denial as an RFC 9457 problem document (`application/problem+json`)."""
        record = self.record
        document: dict[str, Any] = {
            "type": f"urn:llm-governance:{record.primitive or record.reason}",
            "title": "Too Many Requests" if self.status_code == 429 else "Payment Required",
            "status": self.status_code,
            "detail": str(self),
            "instance": f"urn:llm-governance:request:{record.request_id}",
            "request_id": record.request_id,
            "policy_id": record.policy_id,
            "reason": record.reason,
            "budget_namespace": record.charged_namespace,
        }
        if self.retry_after_seconds is not None:
            document["retry_after_seconds"] = self.retry_after_seconds
        return {key: value for key, value in document.items() if value is not None}
