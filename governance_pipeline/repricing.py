"""Repricing: what requests were billed, beside what they would have cost at other prices.

Nothing is rewritten. Each request is priced by its own tokens, day and provider. Only the distinct (model,
provider, day) are looked up, in Python; tiers and rounding are the database's, in whole numbers.

What does not belong here: prices (`llmscope.gateway.cost_model`), where facts come from (`facts_at_hand`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa

from governance_pipeline.answers import Since, since_instant
from governance_pipeline.facts_at_hand import FactsAtHand
from governance_pipeline.sql_files import load_sql
from governance_pipeline.wording import counted
from llmscope.gateway.cost_model import PriceBook
from llmscope.gateway.rates import Rate, RateTier, femto_per_token

By = Literal["model", "tenant"]
# Every request has more input than this: the row of a rate that begins there is its base price.
_NO_THRESHOLD = -1
_MONEY = ("repriced_usd", "delta_usd", "newly_priced_usd")


@dataclass(frozen=True, slots=True)
class Repricing:
    """As billed against repriced.

    Attributes:
        columns: in order.
        rows: the largest difference first; money is Decimal, exact to the nano-dollar.
        sentence: the whole in words.
        since: the instant it begins at, None for all time.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    sentence: str
    since: datetime | None


def reprice(facts: FactsAtHand, book: PriceBook, *, since: Since = None, by: By = "model") -> Repricing:
    """Price every request again.

    Args:
        facts: the requests.
        book: the prices.
        since: only the last `"90m"`, `"24h"`, `"7d"` before the logs' latest event, or from an instant on.
        by: one row per model, or one per model and tenant.

    Raises:
        BadInput: `since` cannot be used.
    """
    begins = since_instant(since, facts.as_of)
    con = facts.con
    keys = load_sql("reports/repriced_keys").execute(con, since=begins).fetchall()
    con.register("repriced_rates", _rates(book, keys))
    try:
        found = load_sql("reports/repriced").execute(con, since=begins, by_tenant=by == "tenant")
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    finally:
        con.unregister("repriced_rates")
    for row in rows:
        for name in _MONEY:
            row[name] = _usd(row.pop(f"{name[:-4]}_nano"))
    columns = tuple(name for name in _COLUMNS if by == "tenant" or name != "tenant_id")
    return Repricing(columns, [tuple(row[name] for name in columns) for row in rows], _sentence(rows), begins)


_COLUMNS = (
    "model",
    "tenant_id",
    "request_count",
    "tokens_in",
    "tokens_out",
    "billed_usd",
    "unpriced_before",
    "repriced_usd",
    "unpriced_after",
    "delta_usd",
    "newly_priced_usd",
    "not_repriced_usd",
    "price_version",
)


def _rates(book: PriceBook, keys: Iterable[tuple[str, str | None, date]]) -> pa.Table:
    """One row per model, provider, day and tier, prices in femto-USD a token."""
    rows: list[tuple[str, str | None, date, int, int, int, int, int, str]] = []
    for model, provider, day in keys:
        rate = book.find(model, datetime.combine(day, time(), UTC), provider)
        if rate is None:
            continue
        brackets: list[tuple[int, Rate | RateTier]] = [(_NO_THRESHOLD, rate)]
        brackets += [(tier.above_input_tokens, tier) for tier in rate.tiers]
        for above, prices in brackets:
            row = (model, provider, day, above, *femto_per_token(prices), rate.price_version)
            rows.append(row)
    columns = list(zip(*rows, strict=True)) or [()] * len(_RATE_SCHEMA)
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, _RATE_SCHEMA, strict=True)],
                    schema=_RATE_SCHEMA)  # fmt: skip


_RATE_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("provider", pa.string()),
        ("day", pa.date32()),
        ("above_input_tokens", pa.int64()),
        ("femto_in", pa.int64()),
        ("femto_out", pa.int64()),
        ("femto_cache_read", pa.int64()),
        ("femto_cache_write", pa.int64()),
        ("price_version", pa.string()),
    ]
)


def _usd(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9)


def _sentence(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "There is no request to reprice."
    count, unpriced = (sum(row[name] for row in rows) for name in ("request_count", "unpriced_after"))
    billed, repriced = (sum(row[name] for row in rows) for name in ("billed_usd", "repriced_usd"))
    told = (
        f"{counted(count, 'request')} billed at {billed:,.6f} USD would cost {repriced:,.6f} USD "
        "at these prices"
    )
    return f"{told}; {counted(unpriced, 'of them has', 'of them have')} no price." if unpriced else f"{told}."
