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
        tiers:                         # optional: for the whole request, once its input is longer
          - above_input_tokens: 200000
            input_usd_per_mtok: 5.00
            output_usd_per_mtok: 15.00

What does not belong here: which list applies (`cost_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec

from llmscope.errors import ConfigurationError
from llmscope.gateway.rates import Rate, RateTier, exact_price

_HIGHEST_USD_PER_MTOK = 1_000_000
_BEGINNING = date.min


class _Amounts(msgspec.Struct, forbid_unknown_fields=True):
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cache_read_usd_per_mtok: float | None = None
    cache_write_usd_per_mtok: float | None = None


class _Tier(_Amounts, forbid_unknown_fields=True, kw_only=True):
    above_input_tokens: int


class _Entry(_Amounts, forbid_unknown_fields=True, kw_only=True):
    model: str
    provider: str | None = None
    valid_from: date | None = msgspec.field(default=None, name="from")
    tiers: list[_Tier] = []


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: str
    prices: list[_Entry]


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
        ConfigurationError: it cannot be read or says something else; the message names the entry.
    """
    document = _read(path)
    dated: dict[str, list[tuple[date, Rate]]] = {}
    seen: set[tuple[str, str | None, date]] = set()
    for entry in document.prices:
        begins = entry.valid_from or _BEGINNING
        key = (entry.model, entry.provider, begins)
        if key in seen:
            since = f" from {begins}" if entry.valid_from else ""
            raise ConfigurationError(
                f"price list {path}: {entry.model}{since} stands there twice; keep one, or give the later "
                "price the day on which it begins (`from: 2026-11-01`)"
            )
        seen.add(key)
        dated.setdefault(entry.model, []).append((begins, _rate_of(path, entry, document.version)))
    latest_first = {
        model: tuple(sorted(rates, key=lambda one: one[0], reverse=True)) for model, rates in dated.items()
    }
    return PriceList(document.version, latest_first)


def _read(path: Path) -> _Document:
    import yaml  # noqa: PLC0415  only who prices something pays for the import

    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _Document)
    except OSError as exc:
        raise ConfigurationError(f"price list {path}: cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"price list {path}: is not YAML: {exc}") from exc
    except msgspec.ValidationError as exc:
        raise ConfigurationError(
            f"price list {path}: {exc}. It needs a version and a list of prices; each needs model, "
            "input_usd_per_mtok and output_usd_per_mtok (numbers, USD per million tokens); provider, from "
            "(a day), cache_read_usd_per_mtok, cache_write_usd_per_mtok and tiers are optional."
        ) from exc


def _rate_of(path: Path, entry: _Entry, version: str) -> Rate:
    thresholds = [tier.above_input_tokens for tier in entry.tiers]
    if thresholds != sorted(set(thresholds)) or any(threshold < 1 for threshold in thresholds):
        raise ConfigurationError(
            f"price list {path}: {entry.model}: the tiers begin above {thresholds} input tokens; "
            "give thresholds of 1 or more, each above the one before"
        )
    usd_in, usd_out, usd_read, usd_write = _amounts(path, entry.model, entry)
    tiers = tuple(
        RateTier(tier.above_input_tokens, *_amounts(path, entry.model, tier)) for tier in entry.tiers
    )
    return Rate(entry.model, entry.provider, usd_in, usd_out, usd_read, version, tiers, usd_write)


def _amounts(path: Path, model: str, given: _Amounts) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    plain = given.input_usd_per_mtok
    read, write = given.cache_read_usd_per_mtok, given.cache_write_usd_per_mtok
    amounts: Sequence[float] = (
        plain,
        given.output_usd_per_mtok,
        plain if read is None else read,
        plain if write is None else write,
    )
    for amount in amounts:
        if not 0 <= amount < _HIGHEST_USD_PER_MTOK:
            raise ConfigurationError(
                f"price list {path}: {model}: {amount} is no price in USD per million tokens; "
                "give a number of 0 or more"
            )
    usd_in, usd_out, usd_read, usd_write = map(exact_price, amounts)
    return usd_in, usd_out, usd_read, usd_write
