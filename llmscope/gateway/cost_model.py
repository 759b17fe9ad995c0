"""What tokens cost: our own short price list first, then a maintained table of some 2,300 models.

The list is `prices.yaml` beside this module, and any file of the same form that `register_prices` is
given. The table is genai-prices, which travels with its data and is imported only when a model is not
listed; nothing is fetched. A model's rate is resolved once per process and kept.

What does not belong here: what to do about a model that nobody can price (the gateway records an
unknown cost, the gate a degraded decision).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from llmscope.errors import ConfigurationError
from llmscope.money import from_nano

TOKENS_PER_MILLION = 1_000_000
# 1 USD per million tokens is 10⁹ femto-USD (10⁻¹⁵) a token; a nano-USD is 10⁶ of them. Prices have at
# most 9 decimals, so sums of tokens × price are exact integers until the one rounding at the end.
_FEMTO_PER_USD_PER_MTOK = 1_000_000_000
_FEMTO_PER_NANO = 1_000_000


@dataclass(frozen=True, slots=True)
class RateTier:
    """Dearer prices that apply to the whole request once its input exceeds `above_tokens_in`."""

    above_tokens_in: int
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_read_usd_per_mtok: Decimal


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one model, in USD per million tokens.

    Attributes:
        cache_read_usd_per_mtok: price of input that the provider had cached.
        price_version: which list or table this is from; stands on every event that it priced.
        tiers: prices of long requests, by rising threshold.
    """

    model: str
    provider: str | None
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_read_usd_per_mtok: Decimal
    price_version: str
    tiers: tuple[RateTier, ...] = ()
    _femto: tuple[int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_femto", _femto_per_token(self))

    def cost_nano(self, tokens_in: int, tokens_out: int, cache_read_tokens: int = 0) -> int:
        """The price of a request in nano-USD, rounded once, half to even.

        Args:
            tokens_in: all input tokens, the cached ones included.
            cache_read_tokens: how many of `tokens_in` the provider had cached.

        Raises:
            ConfigurationError: a negative number, or more cached tokens than there is input.
        """
        if tokens_in < 0 or tokens_out < 0 or not 0 <= cache_read_tokens <= tokens_in:
            raise ConfigurationError(
                "Token counts must be non-negative, cached ones within the input. "
                f"Got tokens_in={tokens_in}, tokens_out={tokens_out}, cache_read_tokens={cache_read_tokens}."
            )
        femto_in, femto_out, femto_cached = self._femto
        for tier in self.tiers:
            if tokens_in > tier.above_tokens_in:
                femto_in, femto_out, femto_cached = _femto_per_token(tier)
        femto = (
            (tokens_in - cache_read_tokens) * femto_in
            + cache_read_tokens * femto_cached
            + tokens_out * femto_out
        )
        nano, rest = divmod(femto, _FEMTO_PER_NANO)
        half = _FEMTO_PER_NANO // 2
        return nano + (rest > half or (rest == half and nano % 2 == 1))


def _femto_per_token(rate: Rate | RateTier) -> tuple[int, int, int]:
    return (
        int(rate.input_usd_per_mtok * _FEMTO_PER_USD_PER_MTOK),
        int(rate.output_usd_per_mtok * _FEMTO_PER_USD_PER_MTOK),
        int(rate.cache_read_usd_per_mtok * _FEMTO_PER_USD_PER_MTOK),
    )


class _ListedPrice(msgspec.Struct, forbid_unknown_fields=True):
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cache_read_usd_per_mtok: float | None = None
    provider: str | None = None


class _PriceList(msgspec.Struct, forbid_unknown_fields=True):
    version: str
    models: dict[str, _ListedPrice]


_PACKAGED_LIST = Path(__file__).with_name("prices.yaml")
_listed: dict[str, Rate] = {}
_from_table: dict[str, Rate] = {}
# Searching the table for a name that it lacks takes milliseconds; callers name few models.
_not_in_table: dict[str, None] = {}
_MOST_UNKNOWN_NAMES = 1024


def rate_for(model: str) -> Rate:
    """The rate of a model: from the registered lists, else from the maintained table.

    Raises:
        ConfigurationError: nobody has a price for it ("Unknown model …").
    """
    if not _listed:
        _load_packaged_list()
    rate = _listed.get(model) or _from_table.get(model)
    if rate is None:
        if model in _not_in_table:
            raise _unknown(model)
        rate = _from_table[model] = _look_up(model)
    return rate


def estimate_cost(model: str, tokens_in: int, tokens_out: int) -> float:
    """What a request costs, in USD with at most 9 decimals.

    Raises:
        ConfigurationError: the model is unknown, or a token count is negative.
    """
    return from_nano(rate_for(model).cost_nano(tokens_in, tokens_out))


def get_pricing() -> dict[str, dict[str, float]]:
    """A copy of the listed prices: model → `input_per_1m`, `output_per_1m`, in USD."""
    if not _listed:
        _load_packaged_list()
    return {
        model: {
            "input_per_1m": float(rate.input_usd_per_mtok),
            "output_per_1m": float(rate.output_usd_per_mtok),
        }
        for model, rate in _listed.items()
    }


def register_prices(path: str | os.PathLike[str]) -> list[str]:
    """Let the price list at `path` beat the packaged list and the table; returns the models it names.

    The file is YAML like the packaged `prices.yaml`: `version`, and per model `input_usd_per_mtok`,
    `output_usd_per_mtok`, and optionally `cache_read_usd_per_mtok` (else the input price) and `provider`.

    Raises:
        ConfigurationError: the file cannot be read or says something else; nothing of it is taken.
    """
    rates = _read_price_list(Path(path))
    if not _listed:
        _load_packaged_list()
    _listed.update(rates)
    return list(rates)


def _load_packaged_list() -> None:
    _listed.update(_read_price_list(_PACKAGED_LIST))


def _read_price_list(path: Path) -> dict[str, Rate]:
    import yaml  # noqa: PLC0415  only who prices something pays for the import

    try:
        prices = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _PriceList)
    except OSError as exc:
        raise ConfigurationError(f"price list {path}: cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"price list {path}: is not YAML: {exc}") from exc
    except msgspec.ValidationError as exc:
        raise ConfigurationError(
            f"price list {path}: {exc}. Each model needs input_usd_per_mtok and output_usd_per_mtok "
            "(numbers, USD per million tokens); cache_read_usd_per_mtok and provider are optional."
        ) from exc
    rates = {}
    for model, price in prices.models.items():
        cached = price.cache_read_usd_per_mtok
        amounts = [price.input_usd_per_mtok, price.output_usd_per_mtok]
        amounts.append(price.input_usd_per_mtok if cached is None else cached)
        for amount in amounts:
            if not 0 <= amount < 1_000_000:
                raise ConfigurationError(
                    f"price list {path}: {model}: {amount} is no price in USD per million tokens; "
                    "give a number of 0 or more"
                )
        usd_in, usd_out, usd_cached = map(_exact, amounts)
        rates[model] = Rate(model, price.provider, usd_in, usd_out, usd_cached, prices.version)
    return rates


def _unknown(model: str) -> ConfigurationError:
    return ConfigurationError(
        f"Unknown model for cost estimation: {model}. Give its price with llmscope.register_prices."
    )


def _exact(amount: float | Decimal) -> Decimal:
    return round(Decimal(str(amount)), 9)


def _look_up(model: str) -> Rate:
    """The table's rate. Where a model is cheaper at some hours, the dearest hour of today counts: a
    rate is kept for the life of the process, and a budget should rather stop early than late."""
    import genai_prices  # noqa: PLC0415  0.2 to 0.4 s, and needed for unlisted models only
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    try:
        provider, info = get_snapshot().find_provider_model(model, None, None, None)
    except LookupError:
        if len(_not_in_table) < _MOST_UNKNOWN_NAMES:
            _not_in_table[model] = None
        raise _unknown(model) from None
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    by_hour = [info.get_prices(midnight + timedelta(hours=hour, minutes=31)) for hour in range(24)]
    price = max(by_hour, key=lambda at: (_base(at.output_mtok), _base(at.input_mtok)))
    if price.input_mtok is None and price.output_mtok is None:
        raise ConfigurationError(
            f"Unknown model for cost estimation: {model} has no price per token in the table of "
            f"{provider.id}. Give its price with llmscope.register_prices."
        )
    thresholds = {
        tier.start
        for kind in (price.input_mtok, price.output_mtok, price.cache_read_mtok)
        for tier in getattr(kind, "tiers", ())
    }
    return Rate(
        model,
        provider.id,
        *_prices_above(price, 0),
        f"genai-prices-{genai_prices.__version__}",
        tuple(RateTier(start, *_prices_above(price, start + 1)) for start in sorted(thresholds)),
    )


def _prices_above(price: Any, tokens_in: int) -> tuple[Decimal, Decimal, Decimal]:
    def at(kind: Any) -> Decimal:
        amount = _base(kind)
        for tier in getattr(kind, "tiers", ()):
            if tokens_in > tier.start:
                amount = tier.price
        return _exact(amount)

    cached = price.cache_read_mtok
    return at(price.input_mtok), at(price.output_mtok), at(price.input_mtok if cached is None else cached)


def _base(price: Any) -> Decimal:
    return Decimal(0) if price is None else getattr(price, "base", price)
