"""One of several processes that hammer a budget; run as a script by `test_one_budget.py`.

Arguments: policy file, telemetry log, decision log, worker number, what to break (`nothing`, `lock`,
`reservation`).
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from llmscope import LLMRequestContext
from policy_runtime import PolicyDenied, PolicyRuntime

BATCH = 8
DENIALS_BEFORE_STOPPING = 3


def break_on_purpose(what: str) -> None:
    """Take one safeguard away."""
    if what == "lock":
        from llmscope.event_log import AdmissionLock
        from policy_runtime.decision_log import DecisionLog

        AdmissionLock.try_acquire = lambda self: True  # type: ignore[method-assign]
        AdmissionLock.release = lambda self: None  # type: ignore[method-assign]
        append = DecisionLog.append

        def late_append(self, record, *, locked):  # type: ignore[no-untyped-def]
            time.sleep(0.002)  # what a lock would make harmless: others decide between look and append
            append(self, record, locked=locked)

        DecisionLog.append = late_append  # type: ignore[method-assign]
    elif what == "reservation":
        from policy_runtime.ledger import Ledger

        Ledger.admit_new = lambda self, admitted: None  # type: ignore[method-assign]


def main() -> None:
    policy, telemetry, decisions, worker, broken = sys.argv[1:]
    break_on_purpose(broken)
    rng = random.Random(int(worker))
    gate = PolicyRuntime(Path(policy), telemetry_path=telemetry, decisions_path=decisions)
    folder = Path(decisions).parent
    (folder / f"ready-{worker}").touch()
    while not (folder / "go").exists():
        time.sleep(0.001)
    denials = 0
    while denials < DENIALS_BEFORE_STOPPING:
        admissions = []
        for _ in range(BATCH):
            ask = gate.admit(
                context=LLMRequestContext(tenant_id=f"tenant-{worker}"),
                route_name="/answer-routed",
                model_tier="expensive",
                tokens_in=rng.randrange(20, 200),
                max_output_tokens=60,
            )
            try:
                admissions.append((ask.__enter__(), ask))
            except PolicyDenied:
                denials += 1
                break
        for admission, ask in admissions:
            admission.settle(tokens_in=ask.decision.estimated_tokens_in, tokens_out=rng.randrange(0, 60))
            ask.__exit__(None, None, None)


if __name__ == "__main__":
    main()
