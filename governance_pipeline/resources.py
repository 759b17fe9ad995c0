"""What Dagster hands to assets and checks: the warehouse, opened our way, and the settings.

What does not belong here: what is done with them (`assets`), and how the file is opened (`warehouse`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from dagster import InitResourceContext
from dagster_duckdb import DuckDBResource
from pydantic import Field

from governance_pipeline import warehouse
from governance_pipeline.dagster_home import PROCESS_TAG, process_identity
from governance_pipeline.settings import DEFAULT_WAREHOUSE_MEMORY_MB

# One pool for everything that opens the warehouse: runs that share an instance then take turns.
WRITER_POOL = "duckdb_writer"
# Beside the pool there are processes without an instance (`governance rebuild`, a notebook): wait for them.
RUN_WAIT_SECONDS = 60.0


class WarehouseResource(DuckDBResource):
    """dagster-duckdb's resource, opened by `warehouse.connect`: laid out, in UTC, waiting with backoff for a
    lock and only for that, and closed also when the asset raises."""

    wait_seconds: float = Field(
        default=RUN_WAIT_SECONDS, description="How long to wait while another process holds the file."
    )
    memory_mb: int = Field(
        default=DEFAULT_WAREHOUSE_MEMORY_MB, description="How much memory DuckDB may take, in megabytes."
    )

    @classmethod
    def _is_dagster_maintained(cls) -> bool:
        return False

    def setup_for_execution(self, context: InitResourceContext) -> None:
        """Leave the executing process's identity on the run, so that a killed run can be recognised."""
        if context.run is not None and context.instance is not None:
            context.instance.add_run_tags(context.run.run_id, {PROCESS_TAG: process_identity()})

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The warehouse for the length of the block.

        Raises:
            governance_pipeline.errors.WarehouseError: it stays locked, or cannot be opened.
        """
        options: dict[str, Any] = {"wait_seconds": self.wait_seconds, "memory_mb": self.memory_mb}
        with warehouse.connect(self.database, **options) as con:
            yield con
