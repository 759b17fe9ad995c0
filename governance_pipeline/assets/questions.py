"""The five questions and their publishing."""

from __future__ import annotations

from dagster import AssetsDefinition, MaterializeResult, MetadataValue, ResourceParam, asset

from governance_pipeline import pipeline
from governance_pipeline.assets.presentation import FINANCE_TEAM, KINDS, markdown_table, table_metadata
from governance_pipeline.charts import chart_markdown
from governance_pipeline.questions import QUESTIONS, read_question
from governance_pipeline.resources import WRITER_POOL, WarehouseResource
from governance_pipeline.settings import Settings


def _asset_of(name: str) -> AssetsDefinition:
    @asset(
        name=name,
        group_name="questions",
        owners=[FINANCE_TEAM],
        kinds=KINDS,
        deps=["fct_requests"],
        description=pipeline.question_in_words(name),
        pool=WRITER_POOL,
    )
    def answer_question(
        warehouse: WarehouseResource, settings: ResourceParam[Settings]
    ) -> MaterializeResult[None]:
        with warehouse.get_connection() as con:
            pipeline.build_question(con, settings, name)
            return MaterializeResult(
                metadata={
                    "answer": MetadataValue.md(pipeline.answer_in_words(con, name)),
                    "chart": MetadataValue.md(chart_markdown(name, read_question(con, name))),
                    "config_hash": pipeline.config_hash(settings, name),
                    **table_metadata(con, f"marts.{name}"),
                }
            )

    return answer_question


question_assets: list[AssetsDefinition] = [_asset_of(name) for name in QUESTIONS]


@asset(
    name="published_answers",
    group_name="published",
    owners=[FINANCE_TEAM],
    kinds={"parquet"},
    deps=[*QUESTIONS, "cost_anomalies"],
    description="The answers, the anomalies and the facts as Parquet files that anybody may read while the "
    "warehouse is being written: swapped in at once, only the days that changed written again.",
    pool=WRITER_POOL,
)
def published_answers(
    warehouse: WarehouseResource, settings: ResourceParam[Settings]
) -> MaterializeResult[None]:
    """Make what the warehouse now says the version that readers read."""
    with warehouse.get_connection() as con:
        publication = pipeline.publish_answers(con, settings)
    manifest = publication.manifest
    return MaterializeResult(
        metadata={
            "folder": MetadataValue.path(str(settings.answers_path / "current")),
            "version": manifest.version,
            "as_of": manifest.as_of or "the logs are empty",
            "days_written": len(publication.days_written),
            "days_kept": len(publication.days_kept),
            "tables": MetadataValue.md(markdown_table(["table", "rows"], list(manifest.tables.items()))),
        }
    )
