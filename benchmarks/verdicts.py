"""How often the verdict on an experiment errs: simulated pairs of arms without an effect, and with one.

What does not belong here: the verdict itself (`governance_pipeline.statistics`), which is tested apart.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.figures import Figure, benchmark
from governance_pipeline.statistics import Arm, Comparison, compare_arms

ALPHA = 0.05
REQUESTS_AN_ARM = 100
EFFECT = 1.5


@dataclass(frozen=True, slots=True)
class ErrorRates:
    """Shares of simulated experiments.

    Attributes:
        significant: cost differs significantly, in either direction.
        dearer: judged dearer, whatever the outcome.
        accused: judged dearer and no better.
    """

    significant: float
    dearer: float
    accused: float


def simulated_arm(draw: random.Random, n: int, mean_factor: float, success_rate: float) -> Arm:
    """Costs as tokens make them: lognormal, sigma 0.8, mean about 0.0138 USD times the factor."""
    costs = [round(draw.lognormvariate(-4.605, 0.8) * mean_factor * 1e9) for _ in range(n)]
    successes = sum(draw.random() < success_rate for _ in range(n))
    return Arm(n, successes, n, sum(costs), sum(cost * cost for cost in costs))


def simulate(
    *, mean_factor: float, rounds: int, seed: int, alpha: float = ALPHA, requests: int = REQUESTS_AN_ARM
) -> ErrorRates:
    """Compare `rounds` experiments of `requests` an arm, whose costs are `mean_factor` times their control's
    and whose success rate is the same 90 %."""
    draw = random.Random(seed)
    seen: list[Comparison] = [
        compare_arms(
            simulated_arm(draw, requests, mean_factor, 0.9),
            simulated_arm(draw, requests, 1, 0.9),
            alpha=alpha,
        )
        for _ in range(rounds)
    ]
    return ErrorRates(
        sum(comparison.p_value_cost is not None and comparison.p_value_cost < alpha for comparison in seen)
        / rounds,
        sum(comparison.verdict.startswith("costlier") for comparison in seen) / rounds,
        sum(comparison.verdict == "costlier_no_better" for comparison in seen) / rounds,
    )


@benchmark("verdicts")
def verdicts() -> Iterator[Figure]:
    """False-positive rate without an effect, power at half as much again, of 100 requests an arm."""
    nothing = simulate(mean_factor=1, rounds=10_000, seed=20261121)
    dearer = simulate(mean_factor=EFFECT, rounds=10_000, seed=20261122)
    # Half of alpha lies on the dearer side.
    yield Figure("verdict_false_positive", nothing.accused, "of experiments without effect", ALPHA / 2, 1.0)
    yield Figure(
        "verdict_power", dearer.dearer, f"of experiments at {EFFECT:g} times the cost", 1, 0.8, at_least=True
    )
