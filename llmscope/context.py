"""Who a request is for: the attribution that every cost question groups by.

What does not belong here: what was decided about the request, or what it cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LLMRequestContext:
    """Attribution of one request. Everything is optional and nothing is interpreted.

    Attributes:
        tenant_id: the customer whose request it is; events say `default` where it is missing.
        caller_id: the service or user that asks.
        use_case: the business purpose, a label.
        feature_id: the product feature.
        experiment_id: the experiment (arm) that the request takes part in.
        budget_namespace: the budget that the gate charges; None means `default`.
    """

    tenant_id: str | None = None
    caller_id: str | None = None
    use_case: str | None = None
    feature_id: str | None = None
    experiment_id: str | None = None
    budget_namespace: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> LLMRequestContext:
        """The context that callers of old put, key by key, into `metadata`; other keys are ignored."""
        if not metadata:
            return cls()
        return cls(**{name: metadata.get(name) for name in ATTRIBUTION_FIELDS})

    def to_audit_tags(self) -> dict[str, str]:
        """Feature, experiment and budget namespace, as far as set: what an event carries in `audit_tags`."""
        tags = {
            "feature_id": self.feature_id,
            "experiment_id": self.experiment_id,
            "budget_namespace": self.budget_namespace,
        }
        return {name: value for name, value in tags.items() if value is not None}


ATTRIBUTION_FIELDS = (
    "tenant_id",
    "caller_id",
    "use_case",
    "feature_id",
    "experiment_id",
    "budget_namespace",
)
