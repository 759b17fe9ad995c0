"""`governance materialize`: the very assets and checks of the UI, executed in this process and recorded in
the shared Dagster instance, so that the UI shows what the command did.

What does not belong here: the assets, and running them without Dagster (`pipeline.refresh`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dagster import DagsterEventType, ExecuteInProcessResult, IntMetadataValue
from dagster_shared.error import SerializableErrorInfo

from governance_pipeline import warehouse
from governance_pipeline.alerts import load_sinks, raise_alerts
from governance_pipeline.answers import published_alerts
from governance_pipeline.dagster_home import PROCESS_TAG, open_instance, process_identity
from governance_pipeline.definitions import build_defs
from governance_pipeline.errors import BadInput, PipelineError, WarehouseError
from governance_pipeline.pipeline import record_alerts
from governance_pipeline.schedules import REFRESH_JOB
from governance_pipeline.sensors import alerts_of_failed_checks
from governance_pipeline.settings import Settings
from governance_pipeline.wording import counted

# Dagster's own log of every step would drown the sentences; what matters of it is told from its events.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
# Class names, because an error that crossed Dagster is text.
_INPUT_ERRORS = frozenset({"BadInput", "PolicyFileError", "SettingsError"})
_MACHINE_ERRORS = frozenset(
    {
        "ArchiveDamaged",
        "WarehouseLocked",
        "WarehouseUnavailable",
        "WarehouseVersionMismatch",
        "IngestError",
        "IngestBusy",
        "IOException",
        "OutOfMemoryException",
        "OSError",
        "PermissionError",
        "TimeoutError",
    }
)


@dataclass(frozen=True, slots=True)
class Materialized:
    """What a materialisation came to.

    Attributes:
        succeeded: whether every asset was built and every blocking check passed.
        failure: what stopped it, empty when nothing did.
        failed_checks: every check that did not pass, warnings included.
        run_id: by which the UI knows the run.
    """

    succeeded: bool
    failure: str
    failed_checks: tuple[str, ...]
    run_id: str


def materialize_all(settings: Settings, *, say: Callable[[str], None]) -> Materialized:
    """Ingest, build, check and publish everything; alerts that follow from it are raised.

    Args:
        settings: where everything is.
        say: takes a sentence per asset and check, as progress.

    Raises:
        PipelineError: a step stopped with an error of ours (a locked warehouse, a configuration mistake).
        OSError: a file cannot be read or written.
    """
    sinks = load_sinks(settings.sinks_path)  # a mistake in the file is told before the work, not after it
    with open_instance(settings) as instance:
        job = build_defs(settings).resolve_job_def(REFRESH_JOB)
        result = job.execute_in_process(
            run_config=_QUIET,
            instance=instance,
            tags={PROCESS_TAG: process_identity()},
            raise_on_error=False,
        )
        failed = _tell(result, say)
        failure = "" if result.success else _failure_of(result)
        alerts = published_alerts(settings.answers_path)
        if not result.success:
            alerts += alerts_of_failed_checks(instance, result.dagster_run, settings)
        raised = raise_alerts(alerts, settings.alerts_path, sinks=sinks)
    if raised.written:
        with warehouse.connect(settings.warehouse_path) as con:
            record_alerts(con, settings)
    for alert in raised.written:
        say(f"alert: {alert.data['message']}")
    return Materialized(result.success, failure, tuple(failed), result.run_id)


def _tell(result: ExecuteInProcessResult, say: Callable[[str], None]) -> list[str]:
    """A sentence per asset and check, in the order they happened; returns the checks that failed."""
    failed = []
    for event in result.all_events:
        if event.event_type is DagsterEventType.ASSET_MATERIALIZATION:
            materialization = event.step_materialization_data.materialization
            rows = materialization.metadata.get("dagster/row_count")
            told = f": {counted(rows.value or 0, 'row')}" if isinstance(rows, IntMetadataValue) else ""
            say(f"{materialization.asset_key.to_user_string()}{told}")
        elif event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                failed.append(evaluation.check_name)
            verdict = "passed" if evaluation.passed else f"{evaluation.severity.value} FAILED"
            say(f"check {evaluation.check_name} {verdict}: {evaluation.description}")
    return failed


def _failure_of(result: ExecuteInProcessResult) -> str:
    """Why a run failed: the checks that stopped it, or the error of a step.

    Raises:
        PipelineError, OSError: the step's own error, where it is one that the command knows how to tell.
    """
    blocked = [
        f"{event.asset_check_evaluation_data.check_name}: {event.asset_check_evaluation_data.description}"
        for event in result.all_events
        if event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION
        and not event.asset_check_evaluation_data.passed
        and event.asset_check_evaluation_data.blocking
    ]
    if blocked:
        return "a blocking check failed, nothing was published: " + "; ".join(blocked)
    for event in result.all_events:
        if event.event_type is DagsterEventType.STEP_FAILURE and event.step_failure_data.error is not None:
            raise _as_ours(event.step_failure_data.error)
    return "the run failed before its first step"


def _as_ours(error: SerializableErrorInfo) -> PipelineError:
    """The error of a step, which Dagster hands back as text, as the kind it was: of what the user gave,
    or of what the machine would not do."""
    chain = [error]
    while chain[-1].cause is not None:
        chain.append(chain[-1].cause)
    for link in chain:
        message = link.message.strip().removeprefix(f"{_qualified_name_in(link.message)}: ")
        if link.cls_name in _INPUT_ERRORS:
            return BadInput(message)
        if link.cls_name in _MACHINE_ERRORS:
            return WarehouseError(message)
    return PipelineError(chain[-1].message.strip())


def _qualified_name_in(message: str) -> str:
    return message.partition(": ")[0]
