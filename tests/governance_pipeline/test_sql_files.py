"""The loader refuses, when it loads, every file that could only fail later."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from governance_pipeline import sql_files
from governance_pipeline.errors import SqlFileError
from governance_pipeline.sql_files import load_sql, parse_sql, sql_root


def test_parameters_are_bound_by_name_and_never_interpolated() -> None:
    file = parse_sql("x", "-- A question.\n-- param who: a tenant\nSELECT $who AS who")
    with duckdb.connect() as con:
        assert file.execute(con, who="a'; DROP TABLE t; --").fetchall() == [("a'; DROP TABLE t; --",)]
    assert file.purpose == "A question."


def test_inseparable_statements_run_in_order_each_with_its_own_parameters() -> None:
    file = parse_sql(
        "x",
        "-- param a: x\n-- param b: y\nCREATE TABLE t AS SELECT $a AS v;\nINSERT INTO t VALUES ($b);\nFROM t",
    )
    with duckdb.connect() as con:
        assert file.execute(con, a=1, b=2).fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no statement"),
        ("-- only a comment\n", "holds no statement"),
        ("SELECT $since", r"uses \$since undeclared"),
        ("-- param since: x\nSELECT 1", r"declares \$since and never uses it"),
        ("-- param since: x\nSELECT '$since'", r"declares \$since and never uses it"),
        ("SELEC 1", "sql/x.sql: Parser Error"),
    ],
)
def test_an_unusable_file_is_refused_with_its_name(text: str, complaint: str) -> None:
    with pytest.raises(SqlFileError, match=complaint) as refused:
        parse_sql("x", text)
    assert "sql/x.sql" in str(refused.value)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(SqlFileError, match=r"no_such\.sql"):
        load_sql("marts/no_such")


@pytest.mark.parametrize("given", [{}, {"a": 1, "b": 2}])
def test_execution_refuses_missing_and_unknown_parameters(given: dict[str, int]) -> None:
    file = parse_sql("x", "-- param a: x\nSELECT $a")
    with duckdb.connect() as con, pytest.raises(SqlFileError, match=r"takes the parameters \['a'\]"):
        file.execute(con, **given)


def test_inside_a_wheel_the_files_are_found_beside_the_package_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "governance_pipeline"
    (package / "_data" / "sql" / "schema").mkdir(parents=True)
    monkeypatch.setattr(sql_files, "__file__", str(package / "sql_files.py"))
    assert sql_root() == package / "_data" / "sql"


def test_every_file_of_the_project_loads() -> None:
    names = [str(path.relative_to(sql_root()).with_suffix("")) for path in sql_root().rglob("*.sql")]
    assert len(names) > 3
    for name in names:
        assert load_sql(name).purpose, f"sql/{name}.sql begins without saying what it is for"
