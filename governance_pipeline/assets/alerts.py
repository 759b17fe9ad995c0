"""What has been told: alerts.jsonl as a table. Materialised when the log of alerts has grown."""

from __future__ import annotations

from dagster import MaterializeResult, ResourceParam, asset

from governance_pipeline import pipeline
from governance_pipeline.assets.presentation import DATA_TEAM, table_metadata
from governance_pipeline.resources import WRITER_POOL, WarehouseResource
from governance_pipeline.settings import Settings

ALERTS_ASSET = "alerts"


@asset(
    name=ALERTS_ASSET,
    group_name="alerts",
    owners=[DATA_TEAM],
    kinds={"duckdb"},
    deps=["published_answers"],
    description="Every alert that was written, once: `ops.alerts`, from alerts.jsonl, which is the truth.",
    pool=WRITER_POOL,
)
def recorded_alerts(
    warehouse: WarehouseResource, settings: ResourceParam[Settings]
) -> MaterializeResult[None]:
    """Bring the table up to date with the log."""
    with warehouse.get_connection() as con:
        pipeline.record_alerts(con, settings)
        return MaterializeResult(metadata=table_metadata(con, "ops.alerts"))
