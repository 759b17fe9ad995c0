"""`marts.fct_requests` wherever it can be had without the warehouse: as published, or folded from logs.

What does not belong here: what is asked of the facts (`answers`, `repricing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import duckdb

from governance_pipeline import warehouse
from governance_pipeline.economics import load_economics
from governance_pipeline.errors import BadInput
from governance_pipeline.facts import build_fct_requests
from governance_pipeline.ingest import ingest
from governance_pipeline.publish import fact_files, reading
from governance_pipeline.settings import Settings
from governance_pipeline.sql_files import load_sql
from governance_pipeline.staging import build_stg_decisions, build_stg_requests
from llmscope.log_names import Named
from llmscope.timestamps import from_micros, parse_micros


@dataclass(frozen=True, slots=True)
class FactsAtHand:
    """A connection that has `marts.fct_requests`.

    Attributes:
        as_of: the logs' own now, None when they are empty.
        origin: `published`, or `logs` when it was folded from log files.
        rejected_lines: lines of those log files that are not ours and count for nothing.
    """

    con: duckdb.DuckDBPyConnection
    as_of: datetime | None
    origin: Literal["published", "logs"]
    rejected_lines: int = 0


@contextmanager
def facts_at_hand(settings: Settings) -> Iterator[FactsAtHand]:
    """The published facts; where nothing is published yet, those of the default logs.

    Raises:
        BadInput: the published facts are of an earlier layout.
    """
    with reading(settings.answers_path) as published:
        if published is not None:
            folder, manifest = published
            as_of = None if manifest.as_of is None else from_micros(parse_micros(manifest.as_of))
            with warehouse.connect(warehouse.IN_MEMORY) as con:
                facts = con.read_parquet(fact_files(folder), hive_partitioning=False, union_by_name=True)
                if "cache_write_tokens" not in facts.columns:
                    raise BadInput(
                        f"what is published in {settings.answers_path} was published by an earlier version: "
                        "run `governance materialize`"
                    )
                facts.create_view("published_facts")
                load_sql("publish/facts_view").execute(con)
                yield FactsAtHand(con, as_of, "published")
            return
    logs = settings.logs
    with facts_of_logs(logs["telemetry"], logs["decisions"], complete=False) as facts_folded:
        yield facts_folded


@contextmanager
def facts_of_logs(
    telemetry: Sequence[Named], decisions: Sequence[Named], *, complete: bool
) -> Iterator[FactsAtHand]:
    """The facts that log files hold, by the same ingest and SQL as the warehouse's.

    Args:
        complete: take the files as they are: no rotated generations are looked for and an unterminated last
            line is a line.
    """
    with warehouse.connect(warehouse.IN_MEMORY) as con:
        taken = ingest(con, telemetry=telemetry, decisions=decisions, complete=complete)
        build_stg_requests(con)
        build_stg_decisions(con)
        as_of = build_fct_requests(con, load_economics(None))
        yield FactsAtHand(con, as_of, "logs", taken.new_rejects)
