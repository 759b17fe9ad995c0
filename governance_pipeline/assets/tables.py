"""Staging, facts and anomalies: one asset per table.

What does not belong here: the five questions (`questions`), which have more to say of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb
from dagster import AssetsDefinition, MaterializeResult, ResourceParam, asset

from governance_pipeline import pipeline
from governance_pipeline.assets.presentation import DATA_TEAM, FINANCE_TEAM, KINDS, table_metadata
from governance_pipeline.resources import WRITER_POOL, WarehouseResource
from governance_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    layer: str
    owner: str
    deps: Sequence[str]
    build: Callable[[duckdb.DuckDBPyConnection, Settings], None]
    description: str


_TABLES = (
    _Table(
        "stg_requests",
        "staging",
        DATA_TEAM,
        ["raw_telemetry"],
        pipeline.stage_requests,
        "One row per request id: the telemetry line that counts, of whatever dialect, under one set of "
        "names. The first line with a known cost counts, else the first.",
    ),
    _Table(
        "stg_decisions",
        "staging",
        DATA_TEAM,
        ["raw_policy_decisions"],
        pipeline.stage_decisions,
        "One row per decision of the gate: who asked, what each rule said, what was reserved and until when.",
    ),
    _Table(
        "fct_requests",
        "marts",
        DATA_TEAM,
        ["stg_requests", "stg_decisions"],
        pipeline.build_facts,
        "Decision and telemetry of each request joined on its id, with where its money stands (reserved, "
        "settled, lapsed, denied, ungoverned …) and, with economics, its revenue and margin.",
    ),
    _Table(
        "cost_anomalies",
        "marts",
        FINANCE_TEAM,
        ["fct_requests"],
        pipeline.build_anomalies,
        "Episodes in which the mean cost of a subject's requests lay far above its baseline.",
    ),
)


def _asset_of(table: _Table) -> AssetsDefinition:
    qualified = f"{table.layer}.{table.name}"

    @asset(
        name=table.name,
        group_name=table.layer,
        owners=[table.owner],
        kinds=KINDS,
        deps=list(table.deps),
        description=table.description,
        pool=WRITER_POOL,
    )
    def build(warehouse: WarehouseResource, settings: ResourceParam[Settings]) -> MaterializeResult[None]:
        with warehouse.get_connection() as con:
            table.build(con, settings)
            return MaterializeResult(metadata=table_metadata(con, qualified))

    return build


table_assets: list[AssetsDefinition] = [_asset_of(table) for table in _TABLES]
