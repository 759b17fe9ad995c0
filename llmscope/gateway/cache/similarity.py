"""Finding, among many vectors, those whose cosine with a given one reaches a threshold.

Comparing 10,000 vectors of 384 numbers one by one takes 60 ms of an event loop. So each vector has a sketch
beside it, 512 bits that say on which side of 512 random planes it lies: the share of bits in which two
sketches differ is the angle between their vectors over 180 degrees (Goemans and Williamson 1995; Charikar
2002). Vectors whose sketches differ by clearly too much are passed over, which takes 0.1 µs each; only the
rest is compared. A near vector is passed over once in some 30,000 times: the answer is then bought again,
never a wrong one given.

What does not belong here: answers, and what their prompts are made into vectors by (`semantic`).
"""

from __future__ import annotations

import math
import random
import threading
from array import array
from collections.abc import Callable, Iterable
from operator import itemgetter, mul

_PLANES = 512
# Each plane's normal has this many +1 and as many -1, the rest 0: as good as a dense one (Achlioptas 2003)
# and a twentieth of the work.
_SIGNS = 8
# How many standard deviations of the binomial a near sketch may differ beyond what its angle says.
_DEVIATIONS = 4
# Shorter vectors are compared directly: that costs no more than their sketches would.
_SKETCHED_FROM_DIMENSIONS = 64

Pick = Callable[["array[float]"], tuple[float, ...]]


def unit_vector(numbers: Iterable[float]) -> array[float]:
    """`numbers` scaled to length 1.

    Raises:
        ValueError: they are none, all 0, or not all finite.
    """
    vector = array("d", numbers)
    length = math.hypot(*vector)
    if not (vector and math.isfinite(length) and length > 0):
        raise ValueError(f"a vector of {len(vector)} numbers and length {length:g} has no direction")
    return array("d", [number / length for number in vector])


class Neighbours:
    """Unit vectors by key, in groups that are searched apart. May be used from several threads."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int], dict[str, tuple[int, array[float]]]] = {}
        self._group_of: dict[str, tuple[str, int]] = {}
        self._planes: dict[int, list[tuple[Pick, Pick]]] = {}
        self._lock = threading.Lock()

    def add(self, group: str, key: str, vector: array[float]) -> None:
        """Add a vector, in the place of an earlier one under `key`."""
        with self._lock:
            self._remove(key)
            place = (group, len(vector))
            self._groups.setdefault(place, {})[key] = (self._sketch(vector), vector)
            self._group_of[key] = place

    def remove(self, key: str) -> None:
        """Remove the vector under `key`, if there is one."""
        with self._lock:
            self._remove(key)

    def within(self, group: str, vector: array[float], threshold: float) -> list[tuple[float, str]]:
        """The vectors of `group`, and of the same dimensions, whose cosine with `vector` is at least
        `threshold`: (cosine, key), the nearest first."""
        with self._lock:
            candidates = self._groups.get((group, len(vector)))
            if not candidates:
                return []
            sketch, most = self._sketch(vector), self._most_bits_apart(threshold)
            near = [
                (min(1.0, sum(map(mul, vector, other))), key)
                for key, (other_sketch, other) in candidates.items()
                if (sketch ^ other_sketch).bit_count() <= most
            ]
        return sorted((pair for pair in near if pair[0] >= threshold), reverse=True)

    def _remove(self, key: str) -> None:
        place = self._group_of.pop(key, None)
        if place is not None:
            group = self._groups[place]
            del group[key]
            if not group:
                del self._groups[place]

    def _sketch(self, vector: array[float]) -> int:
        dimensions = len(vector)
        if dimensions < _SKETCHED_FROM_DIMENSIONS:
            return 0
        planes = self._planes.get(dimensions)
        if planes is None:
            planes = self._planes[dimensions] = _planes(dimensions)
        bits = 0
        for plus, minus in planes:
            bits = bits << 1 | (sum(plus(vector)) > sum(minus(vector)))
        return bits

    @staticmethod
    def _most_bits_apart(threshold: float) -> float:
        share = math.acos(max(-1.0, min(1.0, threshold))) / math.pi
        return _PLANES * share + _DEVIATIONS * math.sqrt(_PLANES * share * (1 - share)) + _DEVIATIONS


def _planes(dimensions: int) -> list[tuple[Pick, Pick]]:
    # The same planes in every process: what is found depends on nothing but the vectors.
    draw = random.Random(dimensions)
    planes: list[tuple[Pick, Pick]] = []
    for _ in range(_PLANES):
        places = draw.sample(range(dimensions), 2 * _SIGNS)
        planes.append((itemgetter(*places[:_SIGNS]), itemgetter(*places[_SIGNS:])))
    return planes
