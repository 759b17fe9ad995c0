"""The rules of settlement, against the table of transitions."""

from __future__ import annotations

import pytest

from policy_runtime.settlement import Account, Bill, Lease, Standing, account_for
from tests.settlement_table import TRANSITIONS, TTL_SECONDS, Transition

START_US = 1_774_346_400_000_000


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: row.name)
def test_every_transition_comes_to_what_the_table_says(row: Transition) -> None:
    lease = None
    if row.decision is not None:
        denied = row.decision.decision == "deny"
        lease = Lease(denied, row.decision.reserved_nano or 0, START_US + TTL_SECONDS * 1_000_000)
    bills = [
        Bill(
            START_US + round(bill.at_seconds * 1e6),
            None if bill.cost_source == "degraded_unknown" else bill.cost_nano,
        )
        for bill in row.bills
    ]
    seen = account_for(lease, bills, START_US + round(row.look_at_seconds * 1e6))
    assert seen == Account(Standing(row.standing), row.spent_nano, row.reserved_nano, row.lapsed_nano)


def test_the_table_reaches_every_standing() -> None:
    assert {row.standing for row in TRANSITIONS} == set(Standing)
