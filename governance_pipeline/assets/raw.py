"""The raw layer: both logs as read, in one transaction with the offsets."""

from __future__ import annotations

from collections.abc import Iterator

from dagster import AssetSpec, MaterializeResult, ResourceParam, multi_asset

from governance_pipeline import pipeline
from governance_pipeline.assets.presentation import DATA_TEAM, table_metadata
from governance_pipeline.resources import WRITER_POOL, WarehouseResource
from governance_pipeline.settings import Settings

_GROUP = "raw"


@multi_asset(
    name="ingest_logs",
    specs=[
        AssetSpec(
            "raw_telemetry",
            group_name=_GROUP,
            owners=[DATA_TEAM],
            kinds={"duckdb", "python"},
            description="Every valid line of telemetry.jsonl and its rotated generations, as written: one "
            "row a line, with file and byte offset. Malformed lines stand in raw.rejected_lines.",
        ),
        AssetSpec(
            "raw_policy_decisions",
            group_name=_GROUP,
            owners=[DATA_TEAM],
            kinds={"duckdb", "python"},
            description="Every valid line of policy_decisions.jsonl and its rotated generations, as written.",
        ),
    ],
    pool=WRITER_POOL,
    can_subset=False,
)
def ingest_logs(
    warehouse: WarehouseResource, settings: ResourceParam[Settings]
) -> Iterator[MaterializeResult[None]]:
    """Take every byte that is new in either log, exactly once."""
    with warehouse.get_connection() as con:
        report = pipeline.ingest_logs(con, settings)
        for asset, log, table in (
            ("raw_telemetry", "telemetry", "raw.telemetry"),
            ("raw_policy_decisions", "decisions", "raw.policy_decisions"),
        ):
            yield MaterializeResult(
                asset_key=asset,
                metadata={**table_metadata(con, table), **pipeline.ingest_numbers(report, log)},
            )
