"""Price lists: YAML files that say what models cost, since when, and for long requests.

    version: acme-2026-11              # stands on every event that the list priced
    prices:
      - model: gpt-4o
        provider: openai               # optional: beats an entry without one for this provider's calls
        from: 2026-11-01               # optional: since the beginning of this day, UTC
        input_usd_per_mtok: 2.50
        output_usd_per_mtok: 10.00
        cache_read_usd_per_mtok: 1.25  # optional: else the input price
        cache_write_usd_per_mtok: 2.50 # optional: else the input price
        cache_write_1h_usd_per_mtok: 5 # optional: of what is kept for an hour; else as other cache writes
        tiers:                         # optional: for the whole request, once its input is longer
          - above_input_tokens: 200000
            input_usd_per_mtok: 5.00
            output_usd_per_mtok: 15.00

What does not belong here: which list applies (`cost_model`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmscope.errors import ConfigurationError
from llmscope.gateway.rates import Rate, RateTier, exact_price

if TYPE_CHECKING:
    from llmscope.gateway.price_file import Amounts, Entry
    from llmscope.strict_yaml import StrictYaml

_BEGINNING = date.min


@dataclass(frozen=True, slots=True)
class PriceList:
    """One list: what it says of a model, on a day, for a provider.

    Attributes:
        version: the list's own name for its content.
        dated: per model, its rates with the day each begins, the latest first.
    """

    version: str
    dated: dict[str, tuple[tuple[date, Rate], ...]]

    def rate_on(self, model: str, day: date, provider: str | None = None) -> Rate | None:
        """The rate in force on a day (UTC), None where the list has none.

        Entries of `provider` beat those that name nobody, which beat those of other providers: a name
        under which a program has registered a provider need not be the one that the list uses.
        """
        in_force = [rate for begins, rate in self.dated.get(model, ()) if begins <= day]
        if not in_force:
            return None
        for wanted in (provider, None):
            for rate in in_force:
                if rate.provider == wanted:
                    return rate
        return in_force[0]

    def current(self, day: date) -> dict[str, Rate]:
        """Every model that the list prices on a day."""
        rates = {model: self.rate_on(model, day) for model in self.dated}
        return {model: rate for model, rate in rates.items() if rate is not None}


def read_price_list(path: Path) -> PriceList:
    """The list in a file.

    Raises:
        ConfigurationError: it cannot be read or says something else; one line per mistake, with file, line
            and fix.
    """
    # Only who prices something pays for pydantic and yaml.
    from llmscope.gateway.price_file import PriceFile  # noqa: PLC0415
    from llmscope.strict_yaml import read_strict_yaml, validated  # noqa: PLC0415

    kind = "a price list is a mapping with `version` and `prices`"
    file = read_strict_yaml(path, kind=kind, refuse=ConfigurationError)
    listed = validated(file, PriceFile, refuse=ConfigurationError, told_place=lambda at: _model_at(file, at))
    dated: dict[str, list[tuple[date, Rate]]] = {}
    first_lines: dict[tuple[str, str | None, date], int] = {}
    for place, entry in enumerate(listed.prices):
        begins, line = entry.valid_from or _BEGINNING, file.line_of(("prices", place))
        first = first_lines.setdefault((entry.model, entry.provider, begins), line)
        if first != line:
            raise ConfigurationError(
                f"{file.source}:{line}: {entry.model} stands there twice (first on line {first}): keep one, "
                "or give the later price the day on which it begins (`from: 2026-11-01`)"
            )
        dated.setdefault(entry.model, []).append((begins, _rate_of(entry, listed.version)))
    latest_first = {
        model: tuple(sorted(rates, key=lambda one: one[0], reverse=True)) for model, rates in dated.items()
    }
    return PriceList(listed.version, latest_first)


def _model_at(file: StrictYaml, location: tuple[Any, ...]) -> str:
    model = file.at((*location[:2], "model")) if location[:1] == ("prices",) else None
    return "" if model is None else f", {model}"


def _rate_of(entry: Entry, version: str) -> Rate:
    usd_in, usd_out, usd_read, usd_write, usd_write_1h = _exact(entry)
    tiers = tuple(RateTier(tier.above_input_tokens, *_exact(tier)) for tier in entry.tiers)
    return Rate(
        entry.model, entry.provider, usd_in, usd_out, usd_read, version, tiers, usd_write, usd_write_1h
    )


def _exact(given: Amounts) -> tuple[Decimal, Decimal, Decimal, Decimal, Decimal | None]:
    plain = given.input_usd_per_mtok
    read, write = given.cache_read_usd_per_mtok, given.cache_write_usd_per_mtok
    write_1h = given.cache_write_1h_usd_per_mtok
    return (
        exact_price(plain),
        exact_price(given.output_usd_per_mtok),
        exact_price(plain if read is None else read),
        exact_price(plain if write is None else write),
        None if write_1h is None else exact_price(write_1h),
    )
