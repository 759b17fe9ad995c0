"""What tokens cost: one's own price lists first, then the packaged one, then the maintained table.

A model's rate is looked up once per day and kept; nothing is fetched. What does not belong here: the
arithmetic (`rates`), the sources (`price_list`, `price_table`), and what to do about a model that nobody
can price (the gateway records an unknown cost, the gate a degraded decision).
"""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

from llmscope.errors import ConfigurationError
from llmscope.gateway.price_list import PriceList, read_price_list
from llmscope.gateway.price_table import look_up
from llmscope.gateway.rates import Rate, RateTier
from llmscope.money import from_nano

__all__ = [
    "PriceBook",
    "Rate",
    "RateTier",
    "estimate_cost",
    "find_rate",
    "get_pricing",
    "price_book",
    "rate_for",
    "register_prices",
]

_PACKAGED_LIST = Path(__file__).with_name("prices.yaml")
_SECONDS_PER_DAY = 86_400
_FIRST_DAY = date(1970, 1, 1).toordinal()
# Callers name few models; whoever names many, or reprices years, starts the memory afresh.
_MOST_REMEMBERED = 4096


class PriceBook:
    """Price lists, the later registered beating the earlier, and below them the maintained table.

    Rates change at midnight UTC only. Searching the table for a name that it lacks takes milliseconds, so
    that is remembered too.
    """

    def __init__(self, *lists: PriceList) -> None:
        self._lists = lists
        self._known: dict[tuple[str, str | None, int], Rate | None] = {}

    def with_list(self, added: PriceList) -> PriceBook:
        """A book in which `added` beats everything that is in this one."""
        return PriceBook(added, *self._lists)

    def find(self, model: str, at: datetime | None = None, provider: str | None = None) -> Rate | None:
        """The rate of a model, None when nobody has a price for it.

        Args:
            at: when the request was made (aware); now, if not given. A list without an entry for that day
                leaves the model to the next.
            provider: who was asked, where the price depends on it.
        """
        day = _FIRST_DAY + int(time.time() // _SECONDS_PER_DAY) if at is None else _utc_ordinal(at)
        key = (model, provider, day)
        known = self._known
        rate = known.get(key)
        if rate is None and key not in known:
            if len(known) >= _MOST_REMEMBERED:
                known.clear()
            rate = known[key] = self._look_up(model, date.fromordinal(day), provider)
        return rate

    def pricing(self, day: date) -> dict[str, Rate]:
        """Every model on any of the lists, as priced on a day."""
        rates: dict[str, Rate] = {}
        for prices in reversed(self._lists):
            rates.update(prices.current(day))
        return rates

    def _look_up(self, model: str, day: date, provider: str | None) -> Rate | None:
        for prices in self._lists:
            rate = prices.rate_on(model, day, provider)
            if rate is not None:
                return rate
        return look_up(model, day, provider)


def _utc_ordinal(at: datetime) -> int:
    if at.tzinfo is None:
        raise ConfigurationError(f"a price is asked for at {at}, which names no time zone")
    return at.astimezone(UTC).toordinal()


@cache
def _packaged_book() -> PriceBook:
    return PriceBook(read_price_list(_PACKAGED_LIST))


_registered: list[PriceBook] = []


def price_book() -> PriceBook:
    """The book that prices calls: the packaged list, and what has been registered in this process."""
    return _registered[-1] if _registered else _packaged_book()


def register_prices(path: str | os.PathLike[str]) -> list[str]:
    """Let the price list at `path` beat the packaged list and the table; returns the models it names.

    Raises:
        ConfigurationError: the file cannot be read or is no price list (`price_list` shows one); nothing
            of it is taken.
    """
    added = read_price_list(Path(path))
    _registered[:] = [price_book().with_list(added)]
    return list(added.dated)


def find_rate(model: str, at: datetime | None = None, provider: str | None = None) -> Rate | None:
    """`PriceBook.find` in this process's book."""
    return price_book().find(model, at, provider)


def rate_for(model: str, at: datetime | None = None, provider: str | None = None) -> Rate:
    """The rate of a model; see `PriceBook.find`.

    Raises:
        ConfigurationError: nobody has a price for it ("Unknown model …").
    """
    rate = price_book().find(model, at, provider)
    if rate is None:
        raise ConfigurationError(
            f"Unknown model for cost estimation: {model}. Give its price with llmscope.register_prices."
        )
    return rate


def estimate_cost(model: str, tokens_in: int, tokens_out: int) -> float:
    """What a request costs, in USD with at most 9 decimals.

    Raises:
        ConfigurationError: the model is unknown, or a token count is negative.
    """
    return from_nano(rate_for(model).cost_nano(tokens_in, tokens_out))


def get_pricing() -> dict[str, dict[str, float]]:
    """A copy of the listed prices of today: model → `input_per_1m`, `output_per_1m`, in USD."""
    return {
        model: {
            "input_per_1m": float(rate.input_usd_per_mtok),
            "output_per_1m": float(rate.output_usd_per_mtok),
        }
        for model, rate in price_book().pricing(datetime.now(UTC).date()).items()
    }
