"""What runs because something happened: the logs grew, an anomaly was published, a check failed.

Sensors read files and the published answers only. None opens the warehouse, so none waits for a writer or
keeps one waiting.

What does not belong here: what runs by the clock (`schedules`), and how alerts are written (`alerts`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from dagster import (
    AssetCheckEvaluation,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunFailureSensorContext,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    run_failure_sensor,
    sensor,
)

from governance_pipeline.alerts import Alert, Raised, load_sinks, make_alert, raise_alerts
from governance_pipeline.answers import published_alerts
from governance_pipeline.checks import CHECKS
from governance_pipeline.dagster_home import end_dead_runs
from governance_pipeline.freshness import Unread, unread_in
from governance_pipeline.publish import Manifest, current_manifest
from governance_pipeline.schedules import REFRESH_JOB, record_alerts_job, refresh_job
from governance_pipeline.settings import Settings
from governance_pipeline.wording import counted
from llmscope.timestamps import format_micros

LOG_GROWTH_INTERVAL_SECONDS = 10
ALERTS_INTERVAL_SECONDS = 10
# A refresh that failed is tried again after 10, 20, 40 … seconds, at most every 10 minutes.
_FIRST_RETRY_SECONDS = 10.0
_LONGEST_RETRY_SECONDS = 600.0
_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True, slots=True)
class GrowthCursor:
    """What the log-growth sensor remembers between ticks.

    Attributes:
        offsets: digest of the offsets that were published when it last asked for a run.
        attempt: how many runs it has asked for since these offsets.
        requested_at: when it last asked, seconds since 1970.
    """

    offsets: str = ""
    attempt: int = 0
    requested_at: float = 0.0

    @classmethod
    def parse(cls, text: str | None) -> GrowthCursor:
        """The cursor as Dagster keeps it; a new one where there is none."""
        return cls(**json.loads(text)) if text else cls()

    def text(self) -> str:
        """The cursor for Dagster to keep."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class GrowthTick:
    """What one look at the logs came to: a run to ask for, or why not."""

    cursor: GrowthCursor
    run_key: str | None
    reason: str


def judge_growth(
    cursor: GrowthCursor, unread: Sequence[Unread], manifest: Manifest | None, now: float, *, refreshing: bool
) -> GrowthTick:
    """Whether a refresh is due. A run key is the published offsets and an attempt number, so that the same
    offsets can be tried again after a failure and never run twice by accident.

    Args:
        cursor: what was asked for before.
        unread: what lies beyond the published offsets.
        manifest: what was published last.
        now: seconds since 1970.
        refreshing: whether a refresh is queued or running.
    """
    waiting = [part for part in unread if part.has_whole_line]
    if not waiting:
        return GrowthTick(cursor, None, "Both logs are ingested and published to their last whole line.")
    if refreshing:
        return GrowthTick(cursor, None, "A refresh is queued or running.")
    offsets = _digest(manifest)
    if cursor.offsets != offsets:
        cursor = GrowthCursor(offsets)
    if cursor.attempt:
        pause = min(_FIRST_RETRY_SECONDS * 2 ** (cursor.attempt - 1), _LONGEST_RETRY_SECONDS)
        if now < cursor.requested_at + pause:
            return GrowthTick(
                cursor,
                None,
                f"Refresh {cursor.attempt} from these offsets published nothing; the next is due in "
                f"{cursor.requested_at + pause - now:.0f} s.",
            )
    cursor = replace(cursor, attempt=cursor.attempt + 1, requested_at=now)
    total = sum(part.size_bytes for part in waiting)
    told = f"{counted(total, 'new byte')} in {counted(len(waiting), 'log file')}."
    return GrowthTick(cursor, f"{offsets}:{cursor.attempt}", told)


def build_sensors(settings: Settings) -> list[SensorDefinition]:
    """The four sensors, around the files that `settings` name."""

    @sensor(
        name="log_growth",
        job=refresh_job,
        minimum_interval_seconds=LOG_GROWTH_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Asks for a refresh when either log holds whole lines that are not published yet.",
    )
    def log_growth(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        end_dead_runs(context.instance)
        manifest = current_manifest(settings.answers_path)
        unread = unread_in(settings.logs, manifest.sources if manifest is not None else ())
        tick = judge_growth(
            GrowthCursor.parse(context.cursor),
            unread,
            manifest,
            time.time(),
            refreshing=_is_refreshing(context.instance),
        )
        if tick.run_key is None:
            return SkipReason(tick.reason)
        context.log.info(tick.reason)
        return SensorResult(run_requests=[RunRequest(run_key=tick.run_key)], cursor=tick.cursor.text())

    @sensor(
        name="cost_anomaly",
        minimum_interval_seconds=ALERTS_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Writes one alert per published anomaly episode and budget crossing, also to the sinks.",
    )
    def cost_anomaly(context: SensorEvaluationContext) -> SkipReason:
        del context
        raised = raise_alerts(
            published_alerts(settings.answers_path),
            settings.alerts_path,
            sinks=load_sinks(settings.sinks_path),
        )
        return SkipReason(_told(raised))

    @run_failure_sensor(
        name="failed_checks",
        minimum_interval_seconds=ALERTS_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Writes an alert when a blocking check has stopped a refresh.",
    )
    def failed_checks(context: RunFailureSensorContext) -> SkipReason:
        raised = raise_alerts(
            alerts_of_failed_checks(context.instance, context.dagster_run, settings),
            settings.alerts_path,
            sinks=load_sinks(settings.sinks_path),
        )
        return SkipReason(_told(raised))

    @sensor(
        name="alert_log",
        job=record_alerts_job,
        minimum_interval_seconds=ALERTS_INTERVAL_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Has ops.alerts brought up to date when an alert was written, whoever wrote it.",
    )
    def alert_log(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        try:
            stat = settings.alerts_path.stat()
        except FileNotFoundError:
            return SkipReason("No alert has been written.")
        state = f"{stat.st_ino}:{stat.st_size}"
        if state == context.cursor:
            return SkipReason("Every alert has been brought to ops.alerts.")
        return SensorResult(run_requests=[RunRequest(run_key=state)], cursor=state)

    return [log_growth, cost_anomaly, failed_checks, alert_log]


def alerts_of_failed_checks(instance: DagsterInstance, run: DagsterRun, settings: Settings) -> list[Alert]:
    """One alert for each blocking check that failed in `run`.

    A check that goes on failing is told once: until something is published again its alert has one id.
    """
    manifest = current_manifest(settings.answers_path)
    version = "nothing" if manifest is None else manifest.version
    blocking = {check.name for check in CHECKS if check.blocking}
    alerts = []
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION):
        event = entry.dagster_event
        evaluation = event.event_specific_data if event is not None else None
        if not isinstance(evaluation, AssetCheckEvaluation) or evaluation.passed:
            continue
        if evaluation.check_name not in blocking:
            continue
        asset = evaluation.asset_key.to_user_string()
        alerts.append(
            make_alert(
                "check_failed",
                about=[evaluation.check_name, version],
                subject=f"{asset}/{evaluation.check_name}",
                time=format_micros(int(entry.timestamp * 1_000_000)),
                message=f"The check {evaluation.check_name} of {asset} failed, nothing was published: "
                f"{evaluation.description}",
                data={"check": evaluation.check_name, "asset": asset, "run_id": run.run_id},
            )
        )
    return alerts


def _is_refreshing(instance: DagsterInstance) -> bool:
    return bool(instance.get_runs(RunsFilter(job_name=REFRESH_JOB, statuses=_UNFINISHED), limit=1))


def _digest(manifest: Manifest | None) -> str:
    if manifest is None:
        return "nothing"
    offsets = sorted(
        (str(source["fingerprint"]), int(source["ingested_bytes"])) for source in manifest.sources
    )
    return hashlib.sha256(json.dumps(offsets).encode()).hexdigest()[:16]


def _told(raised: Raised) -> str:
    """What a tick did, as the sensor's page shows it."""
    if not (raised.written or raised.delivered or raised.failed):
        return "Nothing new to tell."
    return (
        f"{counted(len(raised.written), 'alert')} written, {len(raised.delivered)} delivered to sinks, "
        f"{len(raised.failed)} not taken yet."
    )
