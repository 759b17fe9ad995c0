"""The Dagster code location: `workspace.yaml` loads `defs`.

What does not belong here: any asset, sensor or schedule itself, only how they are joined.
"""

from __future__ import annotations

from dagster import Definitions, definitions, in_process_executor

from governance_pipeline.assets.alerts import recorded_alerts
from governance_pipeline.assets.archive import archived_segments
from governance_pipeline.assets.asset_checks import asset_checks
from governance_pipeline.assets.evaluation import (
    build_production_sensor,
    evaluation_results,
    no_regression,
)
from governance_pipeline.assets.questions import published_answers, question_assets
from governance_pipeline.assets.raw import ingest_logs
from governance_pipeline.assets.tables import table_assets
from governance_pipeline.resources import WarehouseResource
from governance_pipeline.schedules import jobs, schedules
from governance_pipeline.sensors import build_sensors
from governance_pipeline.settings import Settings


def build_defs(settings: Settings) -> Definitions:
    """The whole code location around the files that `settings` name.

    Steps run in the run's own process: starting one per step costs fifteen times what the steps do.
    """
    return Definitions(
        assets=[
            ingest_logs,
            *table_assets,
            *question_assets,
            published_answers,
            recorded_alerts,
            archived_segments,
            evaluation_results,
        ],
        asset_checks=[*asset_checks, no_regression],
        jobs=jobs,
        schedules=schedules,
        sensors=[*build_sensors(settings), build_production_sensor(settings)],
        resources={
            "warehouse": WarehouseResource(
                database=str(settings.warehouse_path), memory_mb=settings.warehouse_memory_mb
            ),
            "settings": settings,
        },
        executor=in_process_executor,
    )


@definitions
def defs() -> Definitions:
    """The code location of the environment."""
    return build_defs(Settings.from_environment())
