"""Retention: rotated log segments as Parquet. Materialised on demand, no part of a refresh."""

# No `from __future__ import annotations` here: Dagster reads a config class from the annotation itself.
from dagster import Config, MaterializeResult, MetadataValue, ResourceParam, asset
from pydantic import Field

from governance_pipeline.archive import archive_segments
from governance_pipeline.archive import archived_segments as segments_in
from governance_pipeline.assets.presentation import DATA_TEAM, markdown_table
from governance_pipeline.resources import WRITER_POOL, WarehouseResource
from governance_pipeline.settings import Settings

ARCHIVE_ASSET = "archived_segments"


class ArchiveConfig(Config):
    """What to do with the log files whose segments are in the archive."""

    remove_log_files: bool = Field(
        default=False,
        description="Remove rotated log files that the archive holds. Those that a starting gate reads, "
        "as far back as its longest window, stay all the same.",
    )


@asset(
    name=ARCHIVE_ASSET,
    group_name="archive",
    owners=[DATA_TEAM],
    kinds={"parquet"},
    deps=["raw_telemetry", "raw_policy_decisions"],
    description="Rotated log segments that were ingested to their end, compressed into Parquet line by line. "
    "A rebuild reads them as it reads the logs, so that the log files may go without changing an answer.",
    pool=WRITER_POOL,
)
def archived_segments(
    config: ArchiveConfig, warehouse: WarehouseResource, settings: ResourceParam[Settings]
) -> MaterializeResult[None]:
    """Archive what has been rotated and ingested since."""
    with warehouse.get_connection() as con:
        done = archive_segments(con, settings, remove=config.remove_log_files)
    segments = segments_in(settings)
    rows = [(segment.log, segment.path.name, segment.size_bytes) for segment in segments]
    return MaterializeResult(
        metadata={
            "folder": MetadataValue.path(str(settings.archive_path)),
            "segments_archived": len(done.archived),
            "log_files_removed": len(done.removed),
            "log_files_kept_for_the_gate": len(done.kept),
            "segments": MetadataValue.md(markdown_table(["log", "file", "bytes of log"], rows)),
        }
    )
