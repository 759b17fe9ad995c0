"""Quantiles of latencies in little memory: counts in logarithmic buckets.

Bucket k holds the latencies in (γ^(k−1), γ^k] ms, with γ = (1 + ε)/(1 − ε); any of them is within ε of
the bucket's value 2γ^k/(γ + 1). Sketches of different minutes, threads or processes merge by adding
counts, and the merged quantile is as good as one over all of them. (C. Masson, J. E. Rim, H. K. Lee:
DDSketch, PVLDB 12(12), 2019.)

Written here rather than taken from a t-digest package: the guarantee is one of relative error at every
rank, merging is exact, and the base install needs no compiled dependency for twenty lines.

What does not belong here: time (`live_latency`).
"""

from __future__ import annotations

import math

RELATIVE_ERROR = 0.01

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_BUCKETS_PER_E = 1 / math.log(_GAMMA)
# Everything below a microsecond or above 28 hours counts as that: at most 1,267 buckets.
_LOWEST_MS = 1e-3
_HIGHEST_MS = 1e8


class LatencySketch:
    """Counts of latencies."""

    __slots__ = ("_counts", "count")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def add(self, latency_ms: float) -> None:
        """Count one latency. What is no number above 0 counts as the least."""
        latency_ms = min(latency_ms, _HIGHEST_MS) if latency_ms > _LOWEST_MS else _LOWEST_MS
        bucket = math.ceil(math.log(latency_ms) * _BUCKETS_PER_E)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self.count += 1

    def merge(self, other: LatencySketch) -> None:
        """Take in another sketch's counts."""
        for bucket, count in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.count += other.count

    def value_at_rank(self, rank: int) -> float:
        """The `rank`-th smallest latency (from 1), in ms, within 1 %.

        Raises:
            IndexError: fewer were counted.
        """
        if not 1 <= rank <= self.count:
            raise IndexError(f"rank {rank} of {self.count} latencies")
        # High quantiles are what is asked for, so the way from above is the short one.
        above = 0
        for bucket in sorted(self._counts, reverse=True):
            above += self._counts[bucket]
            if above > self.count - rank:
                break
        return float(2 * _GAMMA**bucket / (_GAMMA + 1))
