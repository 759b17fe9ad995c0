"""How many planted cost episodes are found, and how many are seen where none is: weeks of seasonal traffic
with episodes planted in it, and the Azure trace with none.

The traffic has what real traffic has and an alarm must keep quiet about: hours of the day and of the week
that are dear every time, prices that creep up, rushes of ordinary requests, single requests at fifty times
the usual cost, and whole hours at raised it. The spread of costs is that of the trace.

What does not belong here: what an episode is (`sql/marts`, docs/semantics.md).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure, benchmark
from governance_pipeline.anomalies import DEFAULT_WATCH, build_cost_anomalies
from governance_pipeline.demo.trace import CHAT, CODE, load_trace
from governance_pipeline.economics import NO_ECONOMICS
from governance_pipeline.facts import build_fct_requests
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from governance_pipeline.warehouse import IN_MEMORY, connect

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND_US, MINUTE_US, HOUR_US = 1_000_000, 60_000_000, 3_600_000_000
WEEK_US = 168 * HOUR_US
# A Monday, 00:00 UTC.
START_US = int(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * SECOND_US
# Four equal hours of the week must have passed before their season is known.
LEARNING_WEEKS = 4
# An episode opens once the five minutes up to a request are dear enough.
WINDOW_US = 5 * MINUTE_US


@dataclass(frozen=True, slots=True)
class Span:
    """A feature between two instants (microseconds since 1970)."""

    feature_id: str
    begin_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of several features, with what was planted in them."""

    feature_ids: list[str]
    timestamps_us: NDArray[np.int64]
    features: NDArray[np.int64]
    costs_usd: NDArray[np.float64]
    planted: list[Span]


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the planted episodes.

    Attributes:
        planted: how many there were.
        found: those in which exactly one episode opened.
        raised: episodes that opened after the weeks of learning.
        wrong: those of them that opened outside every planted span, or as a second one inside.
    """

    planted: int
    found: int
    raised: int
    wrong: int

    @property
    def precision(self) -> float:
        """Share of raised episodes that are right; 1 where none was raised."""
        return 1 - self.wrong / self.raised if self.raised else 1.0

    @property
    def recall(self) -> float:
        """Share of planted episodes that were found."""
        return self.found / self.planted


def trace_log_spread() -> float:
    """Standard deviation of the logarithm of a request's cost in the trace, at gpt-4o's list price."""
    rows = load_trace()
    spreads = []
    for feature_id in (CODE, CHAT):
        costs = [
            2.5 * row.context_tokens + 10 * row.generated_tokens
            for row in rows
            if row.feature_id == feature_id
        ]
        spreads.append(float(np.std(np.log(np.maximum(costs, 1)))))
    return max(spreads)


def seasonal_traffic(*, seed: int, features: int, weeks: int, per_hour: int, plants: int) -> Traffic:
    """Weeks of traffic; in each feature `plants` episodes, all after the weeks of learning.

    Args:
        per_hour: requests of a feature in an average hour.
        plants: of each feature, at four to eight times the cost for ten to sixty minutes.
    """
    draw = np.random.default_rng(seed)
    spread = trace_log_spread()
    names = [f"feature-{number}" for number in range(features)]
    parts = [_one_feature(draw, name, weeks, per_hour, plants, spread) for name in names]
    sizes = [len(instants) for instants, _, _ in parts]
    return Traffic(
        names,
        np.concatenate([instants for instants, _, _ in parts]),
        np.repeat(np.arange(features), sizes),
        np.concatenate([costs for _, costs, _ in parts]),
        [span for _, _, spans in parts for span in spans],
    )


def _one_feature(
    draw: np.random.Generator, name: str, weeks: int, per_hour: int, plants: int, spread: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[Span]]:
    hours = weeks * 168
    of_week = np.arange(hours) % 168
    of_day = of_week % 24
    workday = of_week < 120
    # Most traffic at 15:00, least at 03:00, half of it at weekends.
    rate = per_hour * (1 + 0.5 * np.cos((of_day - 15) * math.tau / 24)) * np.where(workday, 1.15, 0.6)
    # Costs have their own hours: half as dear again by day, and a batch hour three nights a week at six times.
    level = 0.01 * draw.uniform(0.3, 3) * (1 + 0.5 * np.sin((of_day - draw.integers(24)) * math.tau / 24))
    batch = np.isin(of_week, draw.choice(168, 3, replace=False))
    level = level * np.where(batch, 6, 1) * 1.01 ** (np.arange(hours) / 168)
    rushes = draw.choice(hours, hours // 40, replace=False)
    rate[rushes] *= 3
    raised = draw.choice(hours, hours // 60, replace=False)

    counts = draw.poisson(rate)
    hour_of = np.repeat(np.arange(hours), counts)
    instants = START_US + hour_of * HOUR_US + draw.integers(0, HOUR_US, len(hour_of))
    # Lognormal with a mean of 1.
    costs = level[hour_of] * np.exp(draw.normal(0, spread, len(hour_of)) - spread**2 / 2)
    costs[np.isin(hour_of, raised[~batch[raised]])] *= 1.5
    single = draw.random(len(costs)) < 1e-4
    costs[single] = 50 * level[hour_of[single]]

    spans = []
    first = LEARNING_WEEKS * 168 + 24
    # Never in a row, so that one has closed and its hour been forgotten before the next.
    quiet = np.setdiff1d(np.arange(first, hours - 2, 6), raised)
    for hour in sorted(draw.choice(quiet, plants, replace=False)):
        begin = int(START_US + hour * HOUR_US + draw.integers(0, HOUR_US))
        end = begin + int(draw.integers(10, 61)) * MINUTE_US
        costs[(instants >= begin) & (instants < end)] *= draw.uniform(4, 8)
        spans.append(Span(name, begin, end))
    return instants, costs, spans


def trace_traffic(*, seed: int) -> Traffic:
    """The Azure trace after eight hours made of its own arrivals and its own costs, drawn anew; nothing
    planted."""
    draw = np.random.default_rng(seed)
    rows = load_trace()
    first_us = rows[0].arrival_us
    instants, features, costs = [], [], []
    for number, feature_id in enumerate((CODE, CHAT)):
        own = [row for row in rows if row.feature_id == feature_id]
        at = np.array([row.arrival_us - first_us for row in own], dtype=np.int64) + START_US
        usd = np.array([(2.5 * row.context_tokens + 10 * row.generated_tokens) / 1e6 for row in own])
        for ago in range(9):
            instants.append(at - ago * HOUR_US)
            costs.append(usd if ago == 0 else draw.choice(usd, len(usd)))
            features.append(np.full(len(usd), number))
    return Traffic(
        [CODE, CHAT], np.concatenate(instants), np.concatenate(features), np.concatenate(costs), []
    )


def openings_in(traffic: Traffic) -> list[tuple[str, int]]:
    """The feature and the instant at which each episode opened, by the pipeline's own facts and anomalies."""
    table = pa.table(
        {
            "request_id": pa.array(np.arange(len(traffic.costs_usd))).cast(pa.string()),
            "timestamp": pa.array(traffic.timestamps_us).cast(pa.timestamp("us", "UTC")),
            "feature_id": pa.DictionaryArray.from_arrays(
                pa.array(traffic.features), pa.array(traffic.feature_ids)
            ).cast(pa.string()),
            "cost_usd": pa.array(np.round(traffic.costs_usd, 9)),
        }
    )
    with connect(IN_MEMORY) as con:
        build_stg_requests(con)
        build_stg_decisions(con)
        con.register("handed_over", table)
        con.execute(
            "INSERT INTO staging.stg_requests BY NAME SELECT * REPLACE (CAST(cost_usd AS DECIMAL(18, 9)) AS "
            "cost_usd), 'default' AS tenant_id, TRUE AS is_success, 'success' AS status FROM handed_over"
        )
        as_of = build_fct_requests(con, NO_ECONOMICS)
        build_cost_anomalies(con, [DEFAULT_WATCH], as_of)
        return con.execute("SELECT feature_id, epoch_us(window_start) FROM marts.cost_anomalies").fetchall()


def judge(traffic: Traffic, openings: list[tuple[str, int]]) -> Found:
    """Hold the openings after the weeks of learning against what was planted."""
    known_from = int(traffic.timestamps_us.min()) + LEARNING_WEEKS * WEEK_US
    counted = [opening for opening in openings if opening[1] >= known_from]
    hits = [
        sum(
            feature_id == span.feature_id and span.begin_us <= at < span.end_us + WINDOW_US
            for feature_id, at in counted
        )
        for span in traffic.planted
    ]
    found = sum(hit > 0 for hit in hits)
    return Found(len(traffic.planted), found, len(counted), len(counted) - found)


@benchmark("anomalies")
def anomalies() -> Iterator[Figure]:
    """Precision and recall of episodes on seven weeks of three features, and episodes on the trace."""
    traffic = seasonal_traffic(seed=20261121, features=3, weeks=7, per_hour=1200, plants=40)
    found = judge(traffic, openings_in(traffic))
    yield Figure("anomaly_precision", found.precision, f"of {found.raised} episodes", 1, 0.99, at_least=True)
    yield Figure(
        "anomaly_recall", found.recall, f"of {found.planted} planted episodes", 1, 0.99, at_least=True
    )
    feature_weeks = len(traffic.feature_ids) * (7 - LEARNING_WEEKS)
    print(f"# {found}, false alarms a feature and week: {found.wrong / feature_weeks:.2f}", file=sys.stderr)
    yield Figure("anomaly_trace", len(openings_in(trace_traffic(seed=7))), "episodes", 1, 0)
