"""Loading the statements under `sql/`: one statement of purpose per file, values bound by name.

A file's parameters are declared in its head, one a line, and used as `$name`:

    -- What the statement is for.
    -- param as_of: instant that "now" means, TIMESTAMPTZ

What does not belong here: SQL itself, and any way to put text into a statement.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from governance_pipeline.errors import SqlFileError

_DECLARATION = re.compile(r"^--\s*param\s+(\w+)\s*:", re.MULTILINE)
_PARSER_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement and the names of the parameters it uses."""

    text: str
    parameters: frozenset[str]


@dataclass(frozen=True, slots=True)
class SqlFile:
    """A file under `sql/`, checked and ready to run.

    Attributes:
        name: path below `sql/` without its ending, e.g. `marts/fct_requests`.
        text: the file as written.
        statements: what it holds, in order (several only where they are inseparable).
        parameters: name of each declared parameter.
        purpose: the comment at the head of the file, without the declarations.
    """

    name: str
    text: str
    statements: tuple[Statement, ...]
    parameters: frozenset[str]
    purpose: str = field(default="")

    def execute(self, con: duckdb.DuckDBPyConnection, **params: Any) -> duckdb.DuckDBPyConnection:
        """Run every statement in order, bound to `params`; returns the connection, for fetching the
        last statement's rows.

        Raises:
            SqlFileError: a declared parameter is missing or an undeclared one was given.
        """
        return self.execute_with(con, params)

    def execute_with(
        self, con: duckdb.DuckDBPyConnection, params: Mapping[str, Any]
    ) -> duckdb.DuckDBPyConnection:
        """`execute` with the parameters in a mapping."""
        if params.keys() != self.parameters:
            raise SqlFileError(
                f"sql/{self.name}.sql takes the parameters {sorted(self.parameters)}, got {sorted(params)}"
            )
        for statement in self.statements:
            con.execute(statement.text, {name: params[name] for name in statement.parameters})
        return con


def sql_root() -> Path:
    """The folder of all SQL: `sql/` beside the package in a checkout, inside the package in a wheel.

    Raises:
        SqlFileError: neither is there.
    """
    package = Path(__file__).resolve().parent
    candidates = (package.parent / "sql", package / "_data" / "sql")
    for candidate in candidates:
        if (candidate / "schema").is_dir():
            return candidate
    raise SqlFileError(f"the SQL files are missing: looked in {' and '.join(map(str, candidates))}")


@cache
def load_sql(name: str) -> SqlFile:
    """The file `sql/<name>.sql`, e.g. `load_sql("marts/fct_requests")`.

    Raises:
        SqlFileError: it is missing, holds no statement, is not SQL, or uses other parameters than declared.
    """
    path = sql_root() / f"{name}.sql"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise SqlFileError(f"{path}: cannot be read: {exc.strerror}") from exc
    return parse_sql(name, text)


def parse_sql(name: str, text: str) -> SqlFile:
    """Check the text of an SQL file.

    Raises:
        SqlFileError: see `load_sql`.
    """
    try:
        with _PARSER_LOCK:
            parsed = _parser().extract_statements(text)
    except duckdb.Error as exc:
        raise SqlFileError(f"sql/{name}.sql: {exc}") from exc
    statements = tuple(
        Statement(statement.query, frozenset(statement.named_parameters)) for statement in parsed
    )
    if not statements:
        raise SqlFileError(f"sql/{name}.sql holds no statement")
    declared = frozenset(_DECLARATION.findall(text))
    used = frozenset().union(*(statement.parameters for statement in statements))
    if undeclared := used - declared:
        raise SqlFileError(
            f"sql/{name}.sql uses {_named(undeclared)} undeclared: add `-- param <name>: <meaning>`"
        )
    if unused := declared - used:
        raise SqlFileError(f"sql/{name}.sql declares {_named(unused)} and never uses it")
    return SqlFile(name, text, statements, declared, _purpose_of(text))


def _named(parameters: frozenset[str]) -> str:
    return ", ".join(f"${name}" for name in sorted(parameters))


def _purpose_of(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if not _DECLARATION.match(line):
            lines.append(line.removeprefix("--").strip())
    return " ".join(lines).strip()


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    """A connection that only ever parses."""
    return duckdb.connect()
