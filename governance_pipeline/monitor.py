"""The monitor view: what each provider did and where its circuit stands, from the telemetry alone.

What does not belong here: breakers themselves (`llmscope.gateway.breaker`), how the view is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from governance_pipeline import warehouse
from governance_pipeline.answers import Since, since_instant
from governance_pipeline.facts import log_time
from governance_pipeline.ingest import ingest
from governance_pipeline.sql_files import load_sql
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from llmscope.log_names import Named

RECENT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Monitor:
    """The statistics of a log.

    Attributes:
        columns: in order.
        rows: one a provider, the busiest first; see `sql/reports/provider_stats.sql`.
        request_count: all requests, whoever answered.
        total_cost_usd: what they cost, as far as it is known.
        cache_hit_count: requests answered from a cache.
        as_of: the log's own now, None when it is empty.
        since: the instant the statistics begin at, None for all time.
        rejected_lines: lines that are not ours and count for nothing.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    request_count: int
    total_cost_usd: Decimal
    cache_hit_count: int
    as_of: datetime | None
    since: datetime | None
    rejected_lines: int

    def by_name(self) -> list[dict[str, Any]]:
        """The rows with their columns' names."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def monitor(telemetry: Sequence[Named], *, since: Since = None, complete: bool = False) -> Monitor:
    """The statistics of telemetry logs.

    Args:
        since: only the last `"90m"`, `"24h"`, `"7d"` before the log's latest event, or from an instant on.
        complete: take the files as they are: no rotated generations are looked for and an unterminated last
            line is a line.

    Raises:
        BadInput: `since` cannot be used.
    """
    with warehouse.connect(warehouse.IN_MEMORY) as con:
        taken = ingest(con, telemetry=telemetry, decisions=[], complete=complete)
        build_stg_requests(con)
        build_stg_decisions(con)
        as_of = log_time(con)
        begins = since_instant(since, as_of)
        found = load_sql("reports/provider_stats").execute(con, since=begins, recent_seconds=RECENT_SECONDS)
        columns = tuple(column[0] for column in found.description or ())
        rows = found.fetchall()
        [(count, cost, hits)] = load_sql("reports/request_totals").execute(con, since=begins).fetchall()
    return Monitor(columns, rows, count, cost, hits, as_of, begins, taken.new_rejects)
