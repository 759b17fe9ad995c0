"""How a table shows itself in the asset catalogue: rows, columns, a preview, a sentence.

What does not belong here: building the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
from dagster import MetadataValue, TableColumn, TableSchema

PREVIEW_ROWS = 12
_CELL_CHARACTERS = 60

DATA_TEAM = "team:llm-platform"
FINANCE_TEAM = "team:finops"
KINDS = {"duckdb", "sql"}
# The one parameter of an asset that is not Dagster's to make.
SETTINGS_KEY = "settings"


def table_metadata(con: duckdb.DuckDBPyConnection, qualified: str) -> dict[str, Any]:
    """Row count, column schema and a preview of the first rows of a table."""
    table = con.table(qualified)
    columns = table.columns
    types = [str(kind) for kind in table.types]
    [(row_count,)] = table.count("*").fetchall()
    rows = table.limit(PREVIEW_ROWS).fetchall()
    return {
        "dagster/row_count": int(row_count),
        "dagster/column_schema": TableSchema(
            columns=[TableColumn(name, kind) for name, kind in zip(columns, types, strict=True)]
        ),
        "preview": MetadataValue.md(markdown_table(columns, rows)),
    }


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as a Markdown table; long values are cut."""
    if not rows:
        return "*no rows*"
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Decimal | float):
        return f"{value:.6f}".rstrip("0").rstrip(".")
    text = str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
    return text if len(text) <= _CELL_CHARACTERS else text[: _CELL_CHARACTERS - 1] + "…"
