"""The live gate: decide every LLM call before it is made, and record why.

    from policy_runtime import PolicyDenied, PolicyRuntime

    gate = PolicyRuntime.from_settings()
    result = await gate.call_llm(prompt=..., model_tier="expensive", route_name="/answer-routed", context=...)

Light on purpose: importing it loads no warehouse, no data frames, no telemetry SDK, no vendor SDK.
"""

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
from policy_runtime.status import LiveWindow
from policy_runtime.verdict import Verdict

__all__ = [
    "Account",
    "Admission",
    "AlreadySettled",
    "Bill",
    "DecisionRecord",
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
