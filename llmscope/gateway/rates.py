"""The price of one model, and what a request costs at it: exact, rounded once.

What does not belong here: where prices come from (`price_list`, `price_table`), which of them applies
to a model on a day (`cost_model`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from llmscope.errors import ConfigurationError

TOKENS_PER_MILLION = 1_000_000
# 1 USD per million tokens is 10⁹ femto-USD (10⁻¹⁵) a token; a nano-USD is 10⁶ of them. Prices have at
# most 9 decimals, so sums of tokens × price are exact integers until the one rounding at the end.
_FEMTO_PER_USD_PER_MTOK = 1_000_000_000
_FEMTO_PER_NANO = 1_000_000
_HALF_A_NANO = _FEMTO_PER_NANO // 2
PRICE_DECIMALS = 9


@dataclass(frozen=True, slots=True)
class RateTier:
    """Other prices, that apply to the whole request once its input exceeds `above_input_tokens`.

    Attributes:
        cache_write_usd_per_mtok: None for the tier's input price.
        cache_write_1h_usd_per_mtok: None for the tier's price of other cache writes.
    """

    above_input_tokens: int
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_read_usd_per_mtok: Decimal
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """The price of one model, in USD per million tokens with at most 9 decimals.

    Attributes:
        cache_read_usd_per_mtok: price of input that the provider had cached.
        price_version: which list or table this is from; stands on every event that it priced.
        tiers: prices of long requests, by rising threshold.
        cache_write_usd_per_mtok: price of input that the provider put into its cache; None for the
            input price. Anthropic asks 1.25 times the input price for five minutes
            (docs.anthropic.com, prompt caching, 2026-03).
        cache_write_1h_usd_per_mtok: price of what it keeps there for an hour; None for that of other cache
            writes. Anthropic asks twice the input price (same page).
    """

    model: str
    provider: str | None
    input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    cache_read_usd_per_mtok: Decimal
    price_version: str
    tiers: tuple[RateTier, ...] = ()
    cache_write_usd_per_mtok: Decimal | None = None
    cache_write_1h_usd_per_mtok: Decimal | None = None
    _femto: tuple[int, int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_femto", femto_per_token(self))

    def cost_nano(
        self,
        tokens_in: int,
        tokens_out: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
    ) -> int:
        """The price of a request in nano-USD, rounded once, half to even.

        Args:
            tokens_in: all input tokens, those read from and written into a cache included.
            cache_read_tokens: how many of `tokens_in` the provider had cached.
            cache_write_tokens: how many of `tokens_in` the provider put into its cache.
            cache_write_1h_tokens: how many of those it keeps there for an hour.

        Raises:
            ConfigurationError: a negative number, more cached tokens than there is input, or more kept for an
                hour than written.
        """
        plain = tokens_in - cache_read_tokens - cache_write_tokens
        if plain < 0 or tokens_out < 0 or cache_read_tokens < 0 or cache_write_tokens < 0:
            raise ConfigurationError(
                "Token counts must be non-negative, cached ones within the input. "
                f"Got tokens_in={tokens_in}, tokens_out={tokens_out}, "
                f"cache_read_tokens={cache_read_tokens}, cache_write_tokens={cache_write_tokens}."
            )
        if not 0 <= cache_write_1h_tokens <= cache_write_tokens:
            raise ConfigurationError(
                f"cache_write_1h_tokens is a part of cache_write_tokens={cache_write_tokens}. "
                f"Got {cache_write_1h_tokens}."
            )
        femto_in, femto_out, femto_read, femto_write = self._femto
        prices: Rate | RateTier = self
        if self.tiers:
            for tier in self.tiers:
                if tokens_in > tier.above_input_tokens:
                    femto_in, femto_out, femto_read, femto_write = femto_per_token(tier)
                    prices = tier
        femto = plain * femto_in + tokens_out * femto_out
        if plain != tokens_in:
            femto += cache_read_tokens * femto_read + cache_write_tokens * femto_write
            kept = prices.cache_write_1h_usd_per_mtok
            if cache_write_1h_tokens and kept is not None:
                femto += cache_write_1h_tokens * (int(kept * _FEMTO_PER_USD_PER_MTOK) - femto_write)
        nano, rest = divmod(femto, _FEMTO_PER_NANO)
        if rest < _HALF_A_NANO:
            return nano
        return nano + (rest > _HALF_A_NANO or nano % 2)


def exact_price(amount: float | Decimal) -> Decimal:
    """A price as rates hold it: the shortest decimal form of `amount`, with 9 decimals, half to even."""
    return round(Decimal(str(amount)), PRICE_DECIMALS)


def femto_per_token(rate: Rate | RateTier) -> tuple[int, int, int, int]:
    """The prices of one token in femto-USD (10⁻¹⁵): input, output, cache read, cache write."""
    write = rate.cache_write_usd_per_mtok
    return (
        int(rate.input_usd_per_mtok * _FEMTO_PER_USD_PER_MTOK),
        int(rate.output_usd_per_mtok * _FEMTO_PER_USD_PER_MTOK),
        int(rate.cache_read_usd_per_mtok * _FEMTO_PER_USD_PER_MTOK),
        int((rate.input_usd_per_mtok if write is None else write) * _FEMTO_PER_USD_PER_MTOK),
    )
