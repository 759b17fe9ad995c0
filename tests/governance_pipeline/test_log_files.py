"""A log is its own file, its rotated generations, and what the patterns name; each file counts once."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from governance_pipeline import pipeline, warehouse
from governance_pipeline.answers import ask
from governance_pipeline.cli.explain import follow
from governance_pipeline.freshness import unread_in
from governance_pipeline.log_files import find_log_files
from governance_pipeline.publish import current_manifest
from governance_pipeline.settings import Settings
from llmscope.log_names import would_find
from policy_runtime import SettingsError
from tests.governance_pipeline.refresh_logs import append, decision_line, telemetry_line


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A gate's own logs, and a folder of programs that keep files of their own."""
    settings = Settings.in_home(
        tmp_path / "home",
        telemetry_globs=[str(tmp_path / "others" / "*.jsonl*"), str(tmp_path / "single.log")],
        decisions_globs=[str(tmp_path / "gates" / "*.jsonl")],
    )
    append(settings.telemetry_path, telemetry_line(1, 1, 0.1), telemetry_line(2, 2, 0.2))
    append(settings.decisions_path, decision_line(1, 0))
    append(tmp_path / "others" / "batch.jsonl", telemetry_line(3, 3, 0.4))
    rotated = tmp_path / "others" / "batch.jsonl.1.gz"
    rotated.write_bytes(gzip.compress(telemetry_line(4, 4, 0.8).rstrip(b"\n")))
    append(tmp_path / "others" / "batch.jsonl.lock")
    append(tmp_path / "single.log", telemetry_line(5, 5, 1.6))
    append(tmp_path / "single.log.1", telemetry_line(6, 6, 3.2))
    append(tmp_path / "gates" / "eu.jsonl", decision_line(6, 5), decision_line(7, 6, "deny"))
    return settings


def counted(settings: Settings) -> tuple[int, Decimal]:
    """Requests and what they cost, as question 1 has it."""
    answer = ask("cost_by_tenant_and_feature", settings)
    count, cost = answer.columns.index("request_count"), answer.columns.index("total_cost_usd")
    return sum(row[count] for row in answer.rows), sum((row[cost] for row in answer.rows), Decimal(0))


def refresh(settings: Settings) -> pipeline.Refreshed:
    with warehouse.connect(settings.warehouse_path) as con:
        refreshed = pipeline.refresh(con, settings)
    assert refreshed.failed_blocking == []
    return refreshed


def test_live_rotated_and_compressed_files_of_other_programs_are_counted_once(
    settings: Settings, tmp_path: Path
) -> None:
    assert counted(settings) == (6, Decimal("6.3")), "nothing is published: straight from the logs"
    assert refresh(settings).ingested.new_rows == 9
    assert counted(settings) == (6, Decimal("6.3"))
    assert refresh(settings).ingested.new_rows == 0

    append(tmp_path / "others" / "batch.jsonl", telemetry_line(8, 8, 6.4))
    append(tmp_path / "others" / "night.jsonl", telemetry_line(9, 9, 12.8))
    manifest = current_manifest(settings.answers_path)
    assert manifest is not None
    unread = unread_in(settings.logs, manifest.sources)
    assert sorted(part.path.name for part in unread) == ["batch.jsonl", "night.jsonl"]
    assert refresh(settings).ingested.new_rows == 2
    assert counted(settings) == (8, Decimal("25.5"))


def test_the_same_content_under_another_name_is_counted_once(settings: Settings, tmp_path: Path) -> None:
    refresh(settings)
    others = tmp_path / "others"
    shutil.copy(others / "batch.jsonl", others / "copy-of-batch.jsonl")
    (others / "live.jsonl.gz").write_bytes(gzip.compress(settings.telemetry_path.read_bytes()))
    os.link(others / "batch.jsonl", others / "linked.jsonl")
    assert refresh(settings).ingested.new_rows == 0
    assert counted(settings) == (6, Decimal("6.3"))
    # The original grows on while its copy stays behind.
    append(others / "batch.jsonl", telemetry_line(8, 8, 6.4))
    assert refresh(settings).ingested.new_rows == 1
    assert counted(settings) == (7, Decimal("12.7"))


def test_twin_that_knows_no_file_by_its_content_takes_a_copy_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from governance_pipeline.ingest import _ledger

    monkeypatch.setattr(_ledger.KnownFile, "begins", lambda known, head: False)
    with warehouse.connect(settings.warehouse_path) as con:
        pipeline.ingest_logs(con, settings)
        shutil.copy(tmp_path / "single.log", tmp_path / "others" / "copy.jsonl")
        assert pipeline.ingest_logs(con, settings).new_rows > 0


def test_a_request_is_explained_from_whatever_file_holds_it(settings: Settings) -> None:
    trail = follow("r6", settings)
    assert trail.decision is not None
    assert [usage.cost_nano for usage in trail.usages] == [3_200_000_000]
    assert [usage.cost_nano for usage in follow("r4", settings).usages] == [800_000_000]


def test_paths_bring_their_generations_and_patterns_what_they_match_oldest_first(tmp_path: Path) -> None:
    for age, name in enumerate(["a.jsonl", "a.jsonl.1", "b.jsonl", "a.jsonl.lock", "a.jsonl.checkpoint"]):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    named = [tmp_path / "a.jsonl", str(tmp_path / "*.jsonl*"), tmp_path / "missing"]
    assert [path.name for path in find_log_files(named)] == ["b.jsonl", "a.jsonl.1", "a.jsonl"]
    assert [path.name for path in find_log_files(named[:1], siblings=False)] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "names_it"),
    [
        ("logs/policy_decisions.jsonl", True),
        ("logs/*.jsonl", True),
        ("logs/*.gz", True),
        ("*/*decisions*", True),
        ("logs/telemetry*.jsonl", False),
        ("*.jsonl", False),
        ("other/*.jsonl", False),
    ],
)
def test_a_pattern_that_would_take_one_log_for_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, names_it: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    assert would_find(pattern, Path("logs/policy_decisions.jsonl")) is names_it
    environment = {"GOVERNANCE_HOME": ".", "TELEMETRY_GLOBS": os.pathsep.join(["extra/*.jsonl", pattern])}
    if names_it:
        with pytest.raises(SettingsError, match=r"TELEMETRY_GLOBS.*narrower"):
            Settings.from_environment(environment)
    else:
        assert Settings.from_environment(environment).telemetry_globs == ("extra/*.jsonl", pattern)


def test_twin_a_decision_log_read_as_telemetry_would_be_spend(settings: Settings, tmp_path: Path) -> None:
    """Why such a pattern is refused: a decision carries an estimate under the name of a cost."""
    [decided] = [json.loads(line) for line in settings.decisions_path.read_text().splitlines()]
    assert decided["estimated_cost_usd"] == 0.001
    shutil.copy(tmp_path / "gates" / "eu.jsonl", tmp_path / "others" / "gate.jsonl")
    refresh(settings)
    assert counted(settings)[1] != Decimal("6.3")
