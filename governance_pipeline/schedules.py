"""What runs by the clock.

What does not belong here: what runs because something happened (`sensors`).
"""

from __future__ import annotations

from dagster import (
    AssetSelection,
    DefaultScheduleStatus,
    ScheduleDefinition,
    define_asset_job,
)

from governance_pipeline.assets.archive import ARCHIVE_ASSET
from governance_pipeline.assets.asset_checks import FRESHNESS_CHECK_KEY
from governance_pipeline.assets.evaluation import EVALUATION_ASSET

REFRESH_JOB = "refresh"
AUDIT_JOB = "audit"
FRESHNESS_JOB = "log_freshness"

refresh_job = define_asset_job(
    REFRESH_JOB,
    selection=AssetSelection.all() - AssetSelection.assets(ARCHIVE_ASSET, EVALUATION_ASSET),
    description="Ingest what is new, rebuild what depends on it, check it, publish the answers.",
)
audit_job = define_asset_job(
    AUDIT_JOB,
    selection=AssetSelection.all_asset_checks() - AssetSelection.checks_for_assets(EVALUATION_ASSET),
    description="Every check on what stands in the warehouse, without touching it.",
)
freshness_job = define_asset_job(
    FRESHNESS_JOB,
    selection=AssetSelection.checks(FRESHNESS_CHECK_KEY),
    description="Whether log lines have been waiting to be ingested: looks when no refresh runs.",
)

questions_hourly = ScheduleDefinition(
    name="questions_hourly",
    job=refresh_job,
    cron_schedule="0 * * * *",
    default_status=DefaultScheduleStatus.RUNNING,
    description="The five questions every hour, whatever the log-growth sensor does.",
)
audit_daily = ScheduleDefinition(
    name="audit_daily",
    job=audit_job,
    cron_schedule="15 3 * * *",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Once a day every check over everything.",
)
freshness_watch = ScheduleDefinition(
    name="freshness_watch",
    job=freshness_job,
    cron_schedule="*/15 * * * *",
    default_status=DefaultScheduleStatus.RUNNING,
    description="Notices that refreshes have stopped happening.",
)
