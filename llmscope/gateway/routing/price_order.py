"""What a request would cost at each target, and the order that follows.

What does not belong here: prices themselves (`llmscope.gateway.cost_model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmscope.gateway.cost_model import find_rate
from llmscope.gateway.routing.candidates import name_of
from llmscope.gateway.stages import RoutingRequest, Target

_NANO_PER_USD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PriceOrder:
    """Targets by expected cost.

    Attributes:
        targets: cheapest first; equally dear ones, and those without a price at the end, in the order
            they were given.
        cost_nano: what the request is expected to cost at each, nano-USD; None without a price.
    """

    targets: tuple[Target, ...]
    cost_nano: tuple[int | None, ...]

    def describe(self, target: Target) -> str:
        """What is known of a target's price, for a reason."""
        cost = self.cost_nano[self.targets.index(target)]
        return "no known price" if cost is None else f"{cost / _NANO_PER_USD:.6g} USD expected"

    def unpriced(self) -> str:
        """The targets without a price, named; empty if there are none."""
        pairs = zip(self.targets, self.cost_nano, strict=True)
        return ", ".join(name_of(target) for target, cost in pairs if cost is None)


def expected_cost_nano(
    target: Target, request: RoutingRequest, expected_output_tokens: int | None
) -> int | None:
    """What the request is expected to cost at `target`, in nano-USD; None if nobody has a price.

    Args:
        expected_output_tokens: the usual length of an answer; the longest allowed if None, and never
            more than that.
    """
    tokens_out = request.max_output_tokens
    if expected_output_tokens is not None:
        tokens_out = min(tokens_out, expected_output_tokens)
    rate = find_rate(target.model, provider=target.provider)
    return None if rate is None else rate.cost_nano(request.tokens_in, tokens_out)


def resolve_prices(targets: Sequence[Target]) -> None:
    """Look every target's rate up once, so that no request waits for the price table to load."""
    for target in targets:
        find_rate(target.model, provider=target.provider)


def by_price(
    targets: Sequence[Target], request: RoutingRequest, expected_output_tokens: int | None
) -> PriceOrder:
    """The targets in order of what this very request would cost at them."""
    priced = [(expected_cost_nano(target, request, expected_output_tokens), target) for target in targets]
    priced.sort(key=lambda pair: (pair[0] is None, pair[0] or 0))
    return PriceOrder(tuple(target for _, target in priced), tuple(cost for cost, _ in priced))
