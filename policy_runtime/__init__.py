"""The live gate: decide every LLM call before it is made, and record why.

    from policy_runtime import PolicyDenied, PolicyRuntime

    gate = PolicyRuntime.from_settings()
    result = await gate.call_llm(prompt=..., model_tier="expensive", route_name="/answer-routed", context=...)

Light on purpose: it loads no warehouse, no data frames, no telemetry SDK, no vendor SDK. A module behind
is loaded when a name of it is first used. Pydantic, the models of policy files, the price list and what
writes bills are loaded when the first gate is built, which costs about twice `import pydantic, yaml`
(70 ms where that takes 34), so that the first call finds everything there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policy_runtime.admission import Admission
    from policy_runtime.decision_record import DecisionRecord, RuleOutcome, decode_decision, is_decision
    from policy_runtime.decorator import governed
    from policy_runtime.describe import describe_policy
    from policy_runtime.errors import (
        AlreadySettled,
        GateUnavailable,
        NotEntered,
        PolicyDenied,
        PolicyFileError,
        PolicyRuntimeError,
        RequestIdReused,
        SettingsError,
        UnknownRequest,
    )
    from policy_runtime.gate import PolicyRuntime
    from policy_runtime.policy import Policy
    from policy_runtime.policy_file import LoadedPolicy, load_policy, policy_json_schema
    from policy_runtime.settings import Settings
    from policy_runtime.settlement import Account, Bill, Lease, Standing, account_for
    from policy_runtime.status import EstimateQuality, LiveWindow
    from policy_runtime.verdict import Verdict

_HOME_OF = {
    "Account": "settlement",
    "Admission": "admission",
    "AlreadySettled": "errors",
    "Bill": "settlement",
    "DecisionRecord": "decision_record",
    "EstimateQuality": "status",
    "GateUnavailable": "errors",
    "Lease": "settlement",
    "LiveWindow": "status",
    "LoadedPolicy": "policy_file",
    "NotEntered": "errors",
    "Policy": "policy",
    "PolicyDenied": "errors",
    "PolicyFileError": "errors",
    "PolicyRuntime": "gate",
    "PolicyRuntimeError": "errors",
    "RequestIdReused": "errors",
    "RuleOutcome": "decision_record",
    "Settings": "settings",
    "SettingsError": "errors",
    "Standing": "settlement",
    "UnknownRequest": "errors",
    "Verdict": "verdict",
    "account_for": "settlement",
    "decode_decision": "decision_record",
    "describe_policy": "describe",
    "governed": "decorator",
    "is_decision": "decision_record",
    "load_policy": "policy_file",
    "policy_json_schema": "policy_file",
}

__all__ = [
    "Account",
    "Admission",
    "AlreadySettled",
    "Bill",
    "DecisionRecord",
    "EstimateQuality",
    "GateUnavailable",
    "Lease",
    "LiveWindow",
    "LoadedPolicy",
    "NotEntered",
    "Policy",
    "PolicyDenied",
    "PolicyFileError",
    "PolicyRuntime",
    "PolicyRuntimeError",
    "RequestIdReused",
    "RuleOutcome",
    "Settings",
    "SettingsError",
    "Standing",
    "UnknownRequest",
    "Verdict",
    "account_for",
    "decode_decision",
    "describe_policy",
    "governed",
    "is_decision",
    "load_policy",
    "policy_json_schema",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'policy_runtime' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"policy_runtime.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
