"""What each derived table was built with, which decides whether it can be brought up to date or is built from
the start: the text of its statements and the configuration that it depends on.

What does not belong here: building anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from governance_pipeline.sql_files import load_sql


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a table was built last.

    Attributes:
        definition: see `definition_of`.
        as_of: the logs' own now at that build, None where the table does not depend on it.
    """

    definition: str
    as_of: datetime | None


def definition_of(statements: Sequence[str], configuration: Sequence[str] = ()) -> str:
    """SHA-256 (hex) of the files of those names under `sql/`, of the macros, and of configuration hashes."""
    texts = [load_sql(name).text for name in (*statements, "schema/macros")]
    return hashlib.sha256("\0".join([*texts, *configuration]).encode()).hexdigest()


def derivation_of(con: duckdb.DuckDBPyConnection, table_name: str) -> Derivation | None:
    """How a table was built last; None when it must be built from the start."""
    rows = load_sql("schema/definition_of").execute(con, table_name=table_name).fetchall()
    return Derivation(*rows[0]) if rows else None


def record_derivation(con: duckdb.DuckDBPyConnection, table_name: str, derivation: Derivation) -> None:
    """Record how a table has just been built, within the caller's transaction."""
    load_sql("schema/record_definition").execute(
        con, table_name=table_name, definition=derivation.definition, as_of=derivation.as_of
    )


def forget_derivation(con: duckdb.DuckDBPyConnection, table_name: str) -> None:
    """Have a table built from the start the next time, because what it is made of was."""
    load_sql("schema/forget_definition").execute(con, table_name=table_name)
