"""Every transition of a request's money, as data: the events in order, and what they come to.

The same rows are run through `policy_runtime.settlement` (the rules), the gate's fold and the
warehouse's SQL. Times are seconds after the decision; reservations last 900 seconds; USD amounts
are nano-dollars.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decision:
    """A line of policy_decisions.jsonl at second 0."""

    decision: str = "allow"
    reserved_nano: int | None = 5_000_000
    state: str = "fresh"


@dataclass(frozen=True)
class Bill:
    """A line of telemetry.jsonl. `cost_nano` None is written as a null cost."""

    at_seconds: float
    cost_nano: int | None
    status: str = "success"
    cost_source: str = "estimated_local_snapshot"


@dataclass(frozen=True)
class Transition:
    """One row: what happened, when one looks, and what must be seen."""

    name: str
    decision: Decision | None
    bills: tuple[Bill, ...]
    look_at_seconds: float
    standing: str
    spent_nano: int = 0
    reserved_nano: int = 0
    lapsed_nano: int = 0


TTL_SECONDS = 900
RESERVED = 5_000_000

TRANSITIONS = [
    Transition("reserved", Decision(), (), 10, "reserved", reserved_nano=RESERVED),
    Transition("reserved_until_the_last_microsecond", Decision(), (), 899.999999, "reserved", reserved_nano=RESERVED),
    Transition("settled_below_its_reservation", Decision(), (Bill(3, 1_200_000),), 10, "settled", spent_nano=1_200_000),
    Transition("settled_above_its_reservation", Decision(), (Bill(3, 7_000_000),), 10, "settled", spent_nano=7_000_000),
    Transition("settled_at_zero", Decision(), (Bill(3, 0, status="cached", cost_source="cached_zero"),), 10, "settled"),
    Transition("known_unbilled_failure_settles_at_zero", Decision(),
               (Bill(3, 0, status="error"),), 10, "settled"),
    Transition("unknown_bill_keeps_the_reservation", Decision(), (Bill(3, None),), 10, "unknown_bill",
               reserved_nano=RESERVED),
    Transition("degraded_unknown_error_is_unknown_whatever_its_number", Decision(),
               (Bill(3, 0, status="error", cost_source="degraded_unknown"),), 10, "unknown_bill", reserved_nano=RESERVED),
    Transition("expired", Decision(), (), 900, "lapsed", lapsed_nano=RESERVED),
    Transition("unknown_bill_expired", Decision(), (Bill(3, None),), 901, "lapsed", lapsed_nano=RESERVED),
    Transition("settled_late", Decision(), (Bill(950, 1_500_000),), 1000, "settled_late", spent_nano=1_500_000),
    Transition("settled_late_at_the_very_expiry", Decision(), (Bill(900, 1_500_000),), 1000, "settled_late",
               spent_nano=1_500_000),
    Transition("dated_in_time_but_looked_at_after_expiry", Decision(), (Bill(3, 1_500_000),), 5000, "settled",
               spent_nano=1_500_000),
    Transition("unknown_then_known_late", Decision(), (Bill(3, None), Bill(950, 900_000)), 1000, "settled_late",
               spent_nano=900_000),
    Transition("unknown_then_known_in_time", Decision(), (Bill(3, None), Bill(5, 900_000)), 10, "settled",
               spent_nano=900_000),
    Transition("duplicate_known_bills_count_once", Decision(), (Bill(3, 1_000_000), Bill(4, 2_000_000)), 10, "settled",
               spent_nano=1_000_000),
    Transition("duplicate_known_then_unknown", Decision(), (Bill(3, 1_000_000), Bill(4, None)), 10, "settled",
               spent_nano=1_000_000),
    Transition("degraded_reservation_counts", Decision(state="degraded"), (), 10, "reserved", reserved_nano=RESERVED),
    Transition("degraded_without_a_reservation_is_a_reservation_of_zero", Decision(state="degraded", reserved_nano=None),
               (), 10, "reserved"),
    Transition("degraded_without_a_reservation_settles", Decision(state="degraded", reserved_nano=None),
               (Bill(3, 400_000),), 10, "settled", spent_nano=400_000),
    Transition("downgraded_reserves_too", Decision(decision="downgrade"), (), 10, "reserved", reserved_nano=RESERVED),
    Transition("denied", Decision(decision="deny", reserved_nano=None), (), 10, "denied"),
    Transition("denied_stays_denied", Decision(decision="deny", reserved_nano=None), (), 5000, "denied"),
    Transition("denied_but_billed_all_the_same", Decision(decision="deny", reserved_nano=None),
               (Bill(3, 800_000),), 10, "ungoverned", spent_nano=800_000),
    Transition("ungoverned", None, (Bill(3, 800_000),), 10, "ungoverned", spent_nano=800_000),
    Transition("ungoverned_duplicate", None, (Bill(3, 800_000), Bill(3, 800_000)), 10, "ungoverned", spent_nano=800_000),
    Transition("ungoverned_unknown", None, (Bill(3, None),), 10, "ungoverned"),
]  # fmt: skip
