"""Attribution: what money and requests are counted by, read alike from requests, decisions and bills."""

from __future__ import annotations

import msgspec

from llmscope.telemetry_line import DEFAULT_TENANT

NO_SCOPE_VALUE = "(none)"
"""What a request counts under by a label that it does not carry."""


class Labels(msgspec.Struct, frozen=True, gc=False):
    """What money and requests are attributed to."""

    tenant_id: str
    caller_id: str | None
    use_case: str | None
    feature_id: str | None
    experiment_id: str | None
    route_name: str | None
    budget_namespace: str | None


def labels_for(
    tenant_id: str | None,
    caller_id: str | None,
    use_case: str | None,
    feature_id: str | None,
    experiment_id: str | None,
    route_name: str | None,
    budget_namespace: str | None,
) -> Labels:
    """Labels of a request or record, with the defaults that readers of telemetry apply."""
    return Labels(
        tenant_id or DEFAULT_TENANT,
        caller_id or None,
        use_case or None,
        feature_id or use_case or None,
        experiment_id or None,
        route_name or None,
        budget_namespace or None,
    )
