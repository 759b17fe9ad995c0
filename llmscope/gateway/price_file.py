"""What a price list file may say, as pydantic has it.

Imported when a list is read, for models take time to build. What does not belong here: what a
list means (`price_list`).
"""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
Usd = Annotated[float, Field(ge=0, lt=1_000_000, allow_inf_nan=False)]


class Amounts(BaseModel):
    """Prices in USD per million tokens."""

    model_config = _STRICT

    input_usd_per_mtok: Usd
    output_usd_per_mtok: Usd
    cache_read_usd_per_mtok: Usd | None = None
    cache_write_usd_per_mtok: Usd | None = None
    cache_write_1h_usd_per_mtok: Usd | None = None


class Tier(Amounts):
    """Prices of requests with more input."""

    above_input_tokens: Annotated[int, Field(ge=1)]


class Entry(Amounts):
    """The price of one model, since a day, at a provider."""

    model: Annotated[str, Field(min_length=1)]
    provider: Annotated[str, Field(min_length=1)] | None = None
    valid_from: date | None = Field(default=None, alias="from")
    tiers: tuple[Tier, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _tiers_rise(self) -> Entry:
        thresholds = [tier.above_input_tokens for tier in self.tiers]
        if thresholds != sorted(set(thresholds)):
            raise ValueError(
                f"the tiers begin above {thresholds} input tokens; each must begin above the one before"
            )
        return self


class PriceFile(BaseModel):
    """A whole list."""

    model_config = _STRICT

    version: Annotated[str, Field(min_length=1)]
    prices: tuple[Entry, ...] = Field(strict=False)
