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

from governance_pipeline.assets.alerts import ALERTS_ASSET
from governance_pipeline.assets.archive import ARCHIVE_ASSET
from governance_pipeline.assets.asset_checks import AUDIT_JOB, FRESHNESS_CHECK_KEY
from governance_pipeline.assets.evaluation import EVALUATION_ASSET

REFRESH_JOB = "refresh"
FRESHNESS_JOB = "log_freshness"
RECORD_ALERTS_JOB = "record_alerts"

refresh_job = define_asset_job(
    REFRESH_JOB,
    selection=AssetSelection.all() - AssetSelection.assets(ARCHIVE_ASSET, EVALUATION_ASSET, ALERTS_ASSET),
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

record_alerts_job = define_asset_job(
    RECORD_ALERTS_JOB,
    selection=AssetSelection.assets(ALERTS_ASSET),
    description="Bring ops.alerts up to date with alerts.jsonl: also while no refresh publishes anything.",
)
jobs = (refresh_job, audit_job, freshness_job, record_alerts_job)

_TIMETABLE = (
    (
        "questions_hourly",
        refresh_job,
        "0 * * * *",
        "The five questions every hour, whatever the log-growth sensor does.",
    ),
    ("audit_daily", audit_job, "15 3 * * *", "Once a day every check over everything."),
    ("freshness_watch", freshness_job, "*/15 * * * *", "Notices that refreshes have stopped happening."),
)

schedules = [
    ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        default_status=DefaultScheduleStatus.RUNNING,
        description=description,
    )
    for name, job, cron, description in _TIMETABLE
]
