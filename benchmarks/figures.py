"""What a benchmark is: a figure with its floor, measured in the same run, printed as one JSON line.

A benchmark never decides a test; `met` says whether the goal of the design was reached here and now.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Benchmark = Callable[[], "Iterator[Figure]"]
REGISTRY: dict[str, Benchmark] = {}


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        value, floor: in `unit`.
        goal: the ratio value / floor to stay at or below; at or above with `at_least`.
    """

    figure: str
    value: float
    unit: str
    floor: float
    goal: float
    at_least: bool = False

    @property
    def ratio(self) -> float:
        """Value over floor."""
        return self.value / self.floor

    def line(self) -> str:
        """The figure as one JSON line."""
        met = self.ratio >= self.goal if self.at_least else self.ratio <= self.goal
        return json.dumps(
            {
                "figure": self.figure,
                "value": round(self.value, 4),
                "unit": self.unit,
                "floor": round(self.floor, 4),
                "ratio": round(self.ratio, 3),
                "goal": f"{'>=' if self.at_least else '<='} {self.goal}",
                "met": met,
            }
        )


def benchmark(name: str) -> Callable[[Benchmark], Benchmark]:
    """Register a benchmark under the name that `make bench ONLY=name` takes."""

    def register(function: Benchmark) -> Benchmark:
        REGISTRY[name] = function
        return function

    return register


def p50_us(function: Callable[[], object], *, rounds: int, warm_up: int = 200) -> float:
    """Median duration of one call, in microseconds."""
    for _ in range(warm_up):
        function()
    durations = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        function()
        durations.append(time.perf_counter_ns() - started)
    return statistics.median(durations) / 1000


def seconds(function: Callable[[], object], *, rounds: int = 1) -> float:
    """The best of `rounds` durations, in seconds: what the machine's other work did not disturb."""
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


def run(only: str | None) -> int:
    """Run all benchmarks, or those whose name begins with `only`; the exit code."""
    chosen = {name: function for name, function in REGISTRY.items() if not only or name.startswith(only)}
    if not chosen:
        print(f"no benchmark is named {only!r}; there are: {', '.join(REGISTRY)}", file=sys.stderr)
        return 2
    for name, function in chosen.items():
        print(f"# {name}", file=sys.stderr, flush=True)
        for figure in function():
            print(figure.line(), flush=True)
    return 0
