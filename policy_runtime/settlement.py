"""The rules of events and settlement: what a request stands at, given what the logs say of it.

A decision may reserve money; a telemetry line may bring the bill; time lets a reservation expire.
Every reader of the logs follows these rules: the gate folds them incrementally (`ledger`), the
warehouse states them in SQL (`sql/marts/fct_requests.sql`), and one table of transitions
(`tests/settlement_table.py`) is run through all three.

    decision            bill                          standing at `now`          counts as
    ------------------- ----------------------------- -------------------------- ------------------
    reserves            none, before expiry           reserved                   reserved
    reserves            unknown, before expiry        unknown_bill               reserved
    reserves            none or unknown, after expiry lapsed                     lapsed
    reserves            known, dated before expiry    settled                    spent
    reserves            known, dated at expiry or on  settled_late               spent
    denies              none                          denied                     nothing
    none, or denies     known                         ungoverned                 spent
    none                unknown                       ungoverned                 nothing (unknown)

Of several bills with one id the first with a known cost counts, else the first. A degraded decision
follows the same rules: what it reserved counts. A decision that allowed without reserving (no price
and no history to estimate from) is a reservation of zero.

What does not belong here: windows, scopes, rules, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """Where a request stands. The values are those of `marts.fct_requests.state`."""

    RESERVED = "reserved"
    UNKNOWN_BILL = "unknown_bill"
    LAPSED = "lapsed"
    SETTLED = "settled"
    SETTLED_LATE = "settled_late"
    DENIED = "denied"
    UNGOVERNED = "ungoverned"


@dataclass(frozen=True, slots=True)
class Lease:
    """What a decision said of money.

    Attributes:
        denied: the decision was to deny; nothing is reserved.
        reserved_nano: reserved nano-USD; 0 when nothing could be estimated.
        expires_us: when the reservation lapses, microseconds since 1970.
    """

    denied: bool
    reserved_nano: int
    expires_us: int


@dataclass(frozen=True, slots=True)
class Bill:
    """What a telemetry line said of money: its instant and its cost, None when unknown."""

    timestamp_us: int
    cost_nano: int | None


@dataclass(frozen=True, slots=True)
class Account:
    """A request's standing and the one pot its money is counted in, all in nano-USD."""

    standing: Standing
    spent_nano: int = 0
    reserved_nano: int = 0
    lapsed_nano: int = 0


def counting_bill(bills: Sequence[Bill]) -> Bill | None:
    """The one of several bills with the same request id that counts: the first known, else the first."""
    for bill in bills:
        if bill.cost_nano is not None:
            return bill
    return bills[0] if bills else None


def is_late(lease: Lease, bill: Bill) -> bool:
    """Whether a known bill came after its reservation had lapsed, by the bill's own date."""
    return bill.timestamp_us >= lease.expires_us


def has_lapsed(lease: Lease, now_us: int) -> bool:
    """Whether a reservation without a known bill no longer counts at `now_us`."""
    return now_us >= lease.expires_us


def account_for(lease: Lease | None, bills: Sequence[Bill], now_us: int) -> Account:
    """The standing of one request.

    Args:
        lease: from its decision, None when no decision names the request.
        bills: its telemetry lines, in the order timestamp, file, offset.
        now_us: the instant asked about, microseconds since 1970.
    """
    bill = counting_bill(bills)
    if lease is None or lease.denied:
        if bill is None:
            return Account(Standing.DENIED)
        return Account(Standing.UNGOVERNED, spent_nano=bill.cost_nano or 0)
    if bill is not None and bill.cost_nano is not None:
        late = is_late(lease, bill)
        return Account(Standing.SETTLED_LATE if late else Standing.SETTLED, spent_nano=bill.cost_nano)
    if has_lapsed(lease, now_us):
        return Account(Standing.LAPSED, lapsed_nano=lease.reserved_nano)
    standing = Standing.RESERVED if bill is None else Standing.UNKNOWN_BILL
    return Account(standing, reserved_nano=lease.reserved_nano)
