"""Lines and warehouses of other versions: what an older or newer writer left is counted, and answers stay right."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from governance_pipeline import pipeline, warehouse
from governance_pipeline.answers import ask_files
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.settings import Settings
from llmscope.clock import VirtualClock
from policy_runtime import PolicyRuntime
from tests.governance_pipeline.refresh_logs import (
    START,
    append,
    decision_line,
    settings_in,
    telemetry_line,
    write_ordinary_logs,
)

OLDER = Path(__file__).with_name("older_warehouse")
DERIVED = (
    "staging.stg_requests", "staging.stg_decisions", "marts.fct_requests", "marts.cost_anomalies",
    *(f"marts.{name}" for name in QUESTIONS),
)  # fmt: skip


def newer(line: dict[str, Any]) -> dict[str, Any]:
    """The line as a later version might write it: a version of its own, and keys that nobody knows yet, at the
    top, inside what is known, and before and after it."""
    line = {"a_new_key": {"cost_usd": 99, "deep": [1, [2]]}, **line, "schema_version": "0.9.0", "z": "ü\n"}
    if line.get("rules") is not None:
        line["rules"] = [{"policy_id": "cap", "outcome": "allow", "confidence": 0.5}]
    else:
        line["audit_tags"] = {"feature_id": "never read: the top level has one", "region": "eu"}
        line["attempts"] = [{"provider": "openai", "latency_ms": 200, "region": "eu", "tries": [1]}]
    return line


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    lines = [change(json.loads(line)) for line in path.read_bytes().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def everything_asked(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    files = (settings.telemetry_path, settings.decisions_path)
    return {name: ask_files(name, *files).rows for name in QUESTIONS}


def spent_in_the_gate(settings: Settings) -> float:
    gate = PolicyRuntime(
        {"namespaces": {"team-1": {"rules": [
            {"id": "cap", "primitive": "budget_threshold", "period": "monthly", "limit_usd": 5, "action": "deny"}
        ]}}},
        telemetry_path=settings.telemetry_path,
        decisions_path=settings.decisions_path,
        clock=VirtualClock(START),
    )  # fmt: skip
    try:
        [window] = gate.live_windows()
        return float(window.spent)
    finally:
        gate.close()


def test_unknown_keys_and_a_newer_version_change_no_answer(tmp_path: Path) -> None:
    plain, evolved = settings_in(tmp_path / "plain"), settings_in(tmp_path / "evolved")
    for settings in (plain, evolved):
        write_ordinary_logs(settings)
    # Both name their attempts, for these have a meaning of their own.
    attempts = [{"provider": "openai", "latency_ms": 200}]
    rewrite(plain.telemetry_path, lambda line: {**line, "attempts": attempts})
    for path in (evolved.telemetry_path, evolved.decisions_path):
        rewrite(path, newer)
    assert everything_asked(evolved) == everything_asked(plain)
    assert spent_in_the_gate(evolved) == spent_in_the_gate(plain) > 0
    with warehouse.connect(evolved.warehouse_path) as con:
        refreshed = pipeline.refresh(con, evolved)
        assert refreshed.failed_blocking == []
        assert (refreshed.ingested.new_rows, refreshed.ingested.new_rejects) == (114, 0)
        for table, rows in (("raw.telemetry", 54), ("raw.policy_decisions", 60)):
            found = con.execute(f"SELECT schema_version, count(*) FROM {table} GROUP BY ALL").fetchall()
            assert found == [("0.9.0", rows)], "the version that a line names is kept"


def test_twin_a_reader_that_takes_a_new_key_for_a_cost_is_seen(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    write_ordinary_logs(settings)
    before = everything_asked(settings)
    rewrite(
        settings.telemetry_path, lambda line: {**newer(line), "estimated_cost_usd": line["tokens_in"] / 1e3}
    )
    assert everything_asked(settings) != before


@pytest.mark.parametrize("version", ["0.2.0", "12.0.0-beta", "", 2, 0.1, None, True])
def test_a_line_counts_whatever_version_it_names(tmp_path: Path, version: Any) -> None:
    settings = settings_in(tmp_path)
    append(settings.telemetry_path, telemetry_line(1, 1, 0.5, schema_version=version))
    append(settings.decisions_path, decision_line(1, 0, schema_version=version))
    with warehouse.connect(settings.warehouse_path) as con:
        assert pipeline.refresh(con, settings).ingested.new_rejects == (2 if version == 0.1 else 0)


def without(line: bytes, key: str, number: int) -> bytes:
    kept = {name: value for name, value in json.loads(line).items() if name != key}
    if key != "request_id":
        kept["request_id"] = f"without-{key}-{number}"
    return json.dumps(kept).encode() + b"\n"


def test_a_missing_key_costs_no_line_but_the_one_without_a_time(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    telemetry, decision = telemetry_line(1, 1, 0.5), decision_line(1, 0)
    keys = {"telemetry": list(json.loads(telemetry)), "decisions": list(json.loads(decision))}
    append(settings.telemetry_path, *(without(telemetry, key, 0) for key in keys["telemetry"]))
    append(settings.decisions_path, *(without(decision, key, 0) for key in keys["decisions"]))
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed = pipeline.refresh(con, settings)
        assert refreshed.failed_blocking == []
        rejected = con.execute("SELECT log, reason FROM raw.rejected_lines ORDER BY log").fetchall()
        assert rejected == [("decisions", "missing_timestamp"), ("telemetry", "missing_timestamp")]
        assert refreshed.ingested.new_rows == sum(map(len, keys.values())) - 2
        staged = {
            request_id: (tenant, cost, status, is_success)
            for request_id, tenant, cost, status, is_success in con.execute(
                "SELECT request_id, tenant_id, cost_usd, status, is_success FROM staging.stg_requests"
            ).fetchall()
        }
        assert staged["without-tenant_id-0"][0] == "default"
        assert staged["without-estimated_cost_usd-0"][1] is None, "unknown, never 0"
        assert staged["without-status-0"][2:] == ("unknown", False), "nothing says that it succeeded"
        usual = ("tenant-1", Decimal("0.5"), "success", True)
        others = set(keys["telemetry"]) - {"tenant_id", "estimated_cost_usd", "status", "timestamp"}
        for key in others - {"request_id"}:
            assert staged[f"without-{key}-0"] == usual, key
        [nameless] = [row for request_id, row in staged.items() if request_id.startswith("line:")]
        assert nameless == usual
    assert spent_in_the_gate(settings) > 0


def rows_of(con: duckdb.DuckDBPyConnection) -> dict[str, list[str]]:
    found = {}
    for table in DERIVED:
        columns = ", ".join(name for name in con.table(table).columns if not name.endswith("file_id"))
        found[table] = sorted(map(repr, con.execute(f"SELECT {columns} FROM {table}").fetchall()))
    return found


@pytest.fixture
def older(tmp_path: Path) -> Settings:
    """The logs and the warehouse that an earlier commit of this project made of them."""
    settings = settings_in(tmp_path / "older")
    unpack(OLDER / "telemetry.jsonl.gz", settings.telemetry_path)
    unpack(OLDER / "policy_decisions.jsonl.gz", settings.decisions_path)
    unpack(OLDER / "governance.duckdb.gz", settings.warehouse_path)
    return settings


def unpack(packed: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.decompress(packed.read_bytes()))


@pytest.mark.parametrize("layout", ["as the code finds it", "of a version before"])
def test_a_warehouse_that_an_earlier_commit_wrote_goes_on_by_itself(
    older: Settings, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    with duckdb.connect(str(older.warehouse_path)) as con:
        assert con.execute("SELECT version FROM ops.schema_version").fetchall() == [(1,)]
        names = con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'ops'").fetchall()
        assert ("derivations",) not in names, "it really is older"
    if layout == "of a version before":
        monkeypatch.setattr(warehouse, "SCHEMA_VERSION", warehouse.SCHEMA_VERSION + 1)
    append(older.telemetry_path, telemetry_line(600, 51_000, 0.125))
    with warehouse.connect(older.warehouse_path) as con:
        refreshed = pipeline.refresh(con, older)
        assert refreshed.failed_blocking == []
        assert refreshed.ingested.new_rows == 1, "what it had taken is not read again"
        brought = rows_of(con)
        assert con.execute("SELECT count(*) FROM raw.rejected_lines").fetchall() == [(1,)]
    older.warehouse_path.unlink()
    with warehouse.connect(older.warehouse_path) as con:
        assert pipeline.refresh(con, older).ingested.new_rows == 117
        assert rows_of(con) == brought, "to the rows of a fold from the start"


def test_twin_tables_that_an_earlier_commit_derived_are_not_what_is_derived_now(
    older: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken as they stand, they would lack what came since: requests, and columns."""
    append(older.telemetry_path, telemetry_line(600, 51_000, 0.125))
    with warehouse.connect(older.warehouse_path) as con:
        monkeypatch.setattr(pipeline, "build_stg_requests", lambda con: None)
        with pytest.raises(duckdb.BinderException, match="cache_read_tokens"):
            pipeline.refresh(con, older, publishing=False)
        assert ("r600",) not in con.execute("SELECT request_id FROM staging.stg_requests").fetchall()
