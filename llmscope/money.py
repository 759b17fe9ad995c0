"""Money, quantised once: USD with 9 decimals, half-even, counted as integer nano-USD.

A JSON number is first an IEEE 754 double (what every JSON reader makes of it); its shortest
decimal representation is what gets rounded. The SQL macro `usd` in `sql/schema` does the same
and one test holds the two together on half-way values.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

NANO_PER_USD = 1_000_000_000
# DECIMAL(18,9), the warehouse's type, ends below one billion dollars; a line above is rejected.
MAX_USD = 1_000_000_000
_QUANTUM = Decimal("0.000000001")
# Products below this are exact enough in a double that only neighbours of .5 need the slow path.
_FAST_LIMIT = float(1 << 40)
_FAST_DISTANCE = 0.499


def to_nano(usd: float | Decimal) -> int:
    """`usd` dollars as integer nano-dollars, rounded half to even.

    Raises:
        ValueError: `usd` is NaN or infinite.
    """
    if isinstance(usd, float):
        scaled = usd * 1e9
        if -_FAST_LIMIT < scaled < _FAST_LIMIT:
            nearest = round(scaled)
            if -_FAST_DISTANCE < scaled - nearest < _FAST_DISTANCE:
                return nearest
        usd = Decimal(repr(usd))
    elif isinstance(usd, int):
        return usd * NANO_PER_USD
    if not usd.is_finite():
        raise ValueError(f"not an amount of money: {usd}")
    return int(usd.scaleb(9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def to_nanos(usd: list[float]) -> list[int]:
    """`to_nano` of each of many amounts, 0 or more, at half the price."""
    if max(usd, default=0.0) * 1e9 >= _FAST_LIMIT:
        return [to_nano(amount) for amount in usd]
    far = _FAST_DISTANCE
    return [
        nearest if -far < (scaled := amount * 1e9) - (nearest := round(scaled)) < far else to_nano(amount)
        for amount in usd
    ]


def from_nano(nano: int) -> float:
    """Nano-dollars as the dollars that are written into an event: the double nearest to nano / 10⁹."""
    return nano / NANO_PER_USD


def quantise(usd: float | Decimal) -> Decimal:
    """`usd` as a Decimal with exactly 9 decimals, rounded half to even."""
    return (Decimal(to_nano(usd)) / NANO_PER_USD).quantize(_QUANTUM)
