"""The checks of `checks` as Dagster sees them."""

from __future__ import annotations

from dagster import (
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

FRESHNESS_CHECK_KEY = AssetCheckKey(AssetKey("raw_telemetry"), "log_freshness")


def _asset_check_of(check: Check) -> AssetChecksDefinition:
    @asset_check(
        asset=check.asset,
        name=check.name,
        blocking=check.blocking,
        description=check.description,
        pool=WRITER_POOL,
    )
    def run_check(warehouse: WarehouseResource, settings: ResourceParam[Settings]) -> AssetCheckResult:
        with warehouse.get_connection() as con:
            outcome = check.run(con, settings)
        return AssetCheckResult(
            passed=outcome.passed,
            severity=AssetCheckSeverity.ERROR if check.blocking else AssetCheckSeverity.WARN,
            description=outcome.summary,
            metadata=dict(outcome.numbers),
        )

    return run_check


asset_checks: list[AssetChecksDefinition] = [_asset_check_of(check) for check in CHECKS]
