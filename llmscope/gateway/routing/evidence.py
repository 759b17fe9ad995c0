"""How strongly counts speak for a share of bad calls above a bound.

A likelihood ratio: how many times more likely the counts are under shares above the bound than under the
bound itself, averaged over a ladder of such shares. If the true share is at most the bound, the ratio
exceeds 1/α with a probability of at most α, however often one looks (a mixture of likelihood ratios is a
nonnegative supermartingale; Ville's inequality. H. Robbins: Statistical methods related to the law of the
iterated logarithm, Ann. Math. Statist. 41, 1970; R. Johari et al.: Always valid inference, Oper. Res. 70,
2022). So a test may stop at any call, early when the matter is plain, and need not wait for the edge of a
window.

What does not belong here: which calls are counted, and what is done about it.
"""

from __future__ import annotations

import math

# The highest rung: a target that always fails.
_TOP_SHARE = 0.99
_RUNG_RATIO = 1.3
_LEAST_RATIO = 1.1


class ShareTest:
    """Whether the share of bad calls is above `bound`.

    Args:
        bound: the share that would still do, above 0 and below 0.99.
        least_ratio: the lowest share on the ladder, in multiples of the bound. The rungs above are each
            0.3 times higher than the one below, up to 0.99.
    """

    __slots__ = ("_rungs", "bound")

    def __init__(self, bound: float, least_ratio: float = _LEAST_RATIO) -> None:
        self.bound = bound
        shares = []
        share = bound * least_ratio
        while share < _TOP_SHARE:
            shares.append(share)
            share *= _RUNG_RATIO
        shares.append(_TOP_SHARE)
        # What a bad call and a good one add to the logarithm of the ratio, on each rung.
        self._rungs = [(math.log(share / bound), math.log((1 - share) / (1 - bound))) for share in shares]

    def log_ratio(self, bad: int, calls: int) -> float:
        """The natural logarithm of the likelihood ratio after `bad` bad ones among `calls`."""
        good = calls - bad
        logs = [bad * of_bad + good * of_good for of_bad, of_good in self._rungs]
        highest = max(logs)
        return highest + math.log(sum(math.exp(value - highest) for value in logs) / len(logs))

    def is_above(self, bad: int, calls: int, chance_of_error: float) -> bool:
        """Whether the counts show it, erring with at most `chance_of_error`."""
        return self.log_ratio(bad, calls) >= -math.log(chance_of_error)


def good_run_to_refute(share: float, chance_of_error: float) -> int:
    """How many good calls in a row speak against a share of bad ones of `share` or more: the least n with
    (1 − share)^n ≤ `chance_of_error`. 0.144 and 5 %: 20."""
    return math.ceil(math.log(chance_of_error) / math.log1p(-share))
