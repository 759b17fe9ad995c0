"""The checks of `checks` as Dagster sees them."""

# No `from __future__ import annotations` here: Dagster reads the context's class from the annotation itself.

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckKey,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    ResourceParam,
    asset_check,
)

from governance_pipeline.checks import CHECKS, Check
from governance_pipeline.resources import WRITER_POOL, WarehouseResource
from governance_pipeline.settings import Settings

AUDIT_JOB = "audit"
"""The job in which checks trust nothing that earlier runs have kept."""

FRESHNESS_CHECK_KEY = AssetCheckKey(AssetKey("raw_telemetry"), "log_freshness")


def _asset_check_of(check: Check) -> AssetChecksDefinition:
    @asset_check(
        asset=check.asset,
        name=check.name,
        blocking=check.blocking,
        description=check.description,
        pool=WRITER_POOL,
    )
    def run_check(
        context: AssetCheckExecutionContext, warehouse: WarehouseResource, settings: ResourceParam[Settings]
    ) -> AssetCheckResult:
        is_audit = context.run.job_name == AUDIT_JOB
        run = check.audit if is_audit and check.audit is not None else check.run
        with warehouse.get_connection() as con:
            outcome = run(con, settings)
        return AssetCheckResult(
            passed=outcome.passed,
            severity=AssetCheckSeverity.ERROR if check.blocking else AssetCheckSeverity.WARN,
            description=outcome.summary,
            metadata=dict(outcome.numbers),
        )

    return run_check


asset_checks: list[AssetChecksDefinition] = [_asset_check_of(check) for check in CHECKS]
