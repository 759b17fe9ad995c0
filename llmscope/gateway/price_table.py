"""The maintained table of some 2,300 models: genai-prices, which travels with its data.

It is imported only when a model stands on no list, and fetches nothing. What does not belong here: which
source beats which (`cost_model`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from llmscope.gateway.rates import Rate, RateTier, exact_price


def look_up(model: str, day: date, provider: str | None = None) -> Rate | None:
    """The table's rate on a day (UTC), None where it does not know the model or no price per token.

    Where a model is cheaper at some hours, the day's dearest hour counts: a rate holds for a day, and a
    budget should rather stop early than late.

    Args:
        provider: whose price, where several sell the model; one that the table does not know is as none.
    """
    import genai_prices  # noqa: PLC0415  0.2 to 0.4 s, and needed for unlisted models only

    found = _find(model, provider)
    if found is None:
        return None
    seller, info = found
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    by_hour = [info.get_prices(midnight + timedelta(hours=hour, minutes=31)) for hour in range(24)]
    price = max(by_hour, key=lambda at: (_base(at.output_mtok), _base(at.input_mtok)))
    if price.input_mtok is None and price.output_mtok is None:
        return None
    thresholds = {
        tier.start
        for kind in (price.input_mtok, price.output_mtok, price.cache_read_mtok, price.cache_write_mtok)
        for tier in getattr(kind, "tiers", ())
    }
    usd_in, usd_out, usd_read, usd_write, usd_write_1h = _prices_above(price, 0)
    return Rate(
        model,
        seller.id,
        usd_in,
        usd_out,
        usd_read,
        f"genai-prices-{genai_prices.__version__}",
        tuple(RateTier(start, *_prices_above(price, start + 1)) for start in sorted(thresholds)),
        usd_write,
        usd_write_1h,
    )


def _find(model: str, provider: str | None) -> tuple[Any, Any] | None:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    for seller in (provider, None) if provider is not None else (None,):
        try:
            found: tuple[Any, Any] = get_snapshot().find_provider_model(model, None, seller, None)
        except LookupError:
            continue
        return found
    return None


def _prices_above(price: Any, tokens_in: int) -> tuple[Decimal, Decimal, Decimal, Decimal, Decimal | None]:
    def at(kind: Any) -> Decimal:
        amount = _base(kind)
        for tier in getattr(kind, "tiers", ()):
            if tokens_in > tier.start:
                amount = tier.price
        return exact_price(amount)

    read, write = price.cache_read_mtok, price.cache_write_mtok
    write_1h = getattr(price, "cache_write_1h_mtok", None)
    return (
        at(price.input_mtok),
        at(price.output_mtok),
        at(price.input_mtok if read is None else read),
        at(price.input_mtok if write is None else write),
        None if write_1h is None else at(write_1h),
    )


def _base(price: Any) -> Decimal:
    return Decimal(0) if price is None else getattr(price, "base", price)
