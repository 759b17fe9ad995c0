"""Asking: the same answer from the warehouse, from what is published, and straight from the files."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import governance_pipeline
from governance_pipeline import answers, pipeline, warehouse
from governance_pipeline.errors import BadInput, NothingPublished
from governance_pipeline.questions import QUESTIONS, read_question
from governance_pipeline.settings import Settings
from tests.governance_pipeline.refresh_logs import append, settings_in, telemetry_line, write_ordinary_logs

AS_OF = datetime(2026, 11, 19, 17, 50, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = settings_in(tmp_path)
    write_ordinary_logs(made)
    append(
        made.telemetry_path,
        *(
            telemetry_line(
                100 + n, n * 60, 0.002, experiment_id="longer", is_fallback=n % 5 == 0, attempts=[
                    {"provider": "a", "model": "m", "latency_ms": 900, "status": "error"},
                    {"provider": "b", "model": "m", "latency_ms": 210, "status": "success"},
                ],
            )
            for n in range(40)
        ),
    )  # fmt: skip
    return made


@pytest.fixture
def published(settings: Settings) -> Settings:
    with warehouse.connect(settings.warehouse_path) as con:
        assert pipeline.refresh(con, settings).publication is not None
    return settings


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_the_published_answer_is_the_warehouse_row_for_row(published: Settings, question: str) -> None:
    with warehouse.connect(published.warehouse_path) as con:
        rows = [tuple(row.values()) for row in read_question(con, question)]
    found = answers.ask_published(question, published)
    assert rows
    assert found.rows == rows
    assert found.columns == QUESTIONS[question].columns
    assert found.as_of == AS_OF


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_the_log_files_alone_give_the_same_answer(published: Settings, question: str) -> None:
    from_files = answers.ask_files(question, published.telemetry_path, published.decisions_path)
    assert from_files.rows == answers.ask_published(question, published).rows
    assert from_files.origin == "logs"


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_since_gives_the_same_from_published_facts_and_from_files(published: Settings, question: str) -> None:
    recent = answers.ask_published(question, published, since="9h")
    from_files = answers.ask_files(
        question, published.telemetry_path, published.decisions_path, since=AS_OF - timedelta(hours=9)
    )
    assert recent.rows == from_files.rows
    assert recent.since == AS_OF - timedelta(hours=9)


def test_since_leaves_out_what_came_before(published: Settings) -> None:
    everything = answers.ask_published("budget_pressure_by_namespace", published)
    recent = answers.ask_published("budget_pressure_by_namespace", published, since="95m")
    assert sum(row[4] for row in everything.rows) == 60
    assert sum(row[4] for row in recent.rows) == 10


def test_a_threshold_judges_every_row_again(published: Settings) -> None:
    verdict = QUESTIONS["unsafe_routes"].columns.index("verdict")
    assert {row[verdict] for row in answers.ask_published("unsafe_routes", published).rows} == {"safe"}
    strict = answers.ask_published("unsafe_routes", published, threshold=0.0005)
    assert {row[verdict] for row in strict.rows} == {"unsafe"}
    with pytest.raises(BadInput, match="takes no threshold"):
        answers.ask_published("cost_by_tenant_and_feature", published, threshold=1)


def test_a_missing_file_is_empty(settings: Settings, tmp_path: Path) -> None:
    gone = tmp_path / "gone.jsonl"
    assert answers.ask_files("budget_pressure_by_namespace", settings.telemetry_path, gone).rows == []
    assert answers.ask_files("cost_by_tenant_and_feature", gone, settings.decisions_path).rows == []
    assert answers.ask_files("unsafe_routes", None, None).rows == []
    assert answers.ask_files("unsafe_routes", None, None).as_of is None


def test_an_unterminated_last_line_of_a_file_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(telemetry_line(1, 0) + telemetry_line(2, 1).rstrip(b"\n"))
    [row] = answers.ask_files("fallback_latency_masking", path, None).rows
    assert row[4] == 2


def test_a_gzip_file_is_read_like_any_other(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "old.jsonl.gz"
    path.write_bytes(gzip.compress(settings.telemetry_path.read_bytes()))
    for question in QUESTIONS:
        plain = answers.ask_files(question, settings.telemetry_path, None)
        assert answers.ask_files(question, path, None).rows == plain.rows


def test_before_anything_is_published_the_default_logs_answer(settings: Settings) -> None:
    with pytest.raises(NothingPublished, match="governance materialize"):
        answers.ask_published("unsafe_routes", settings)
    found = answers.ask("unsafe_routes", settings)
    assert found.origin == "logs"
    assert found.rows
    assert not settings.warehouse_path.exists()


def test_a_data_frame_for_notebooks_holds_money_as_floats(
    published: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOVERNANCE_HOME", str(published.home))
    frame = governance_pipeline.answer("cost_by_tenant_and_feature")
    assert list(frame.columns) == list(QUESTIONS["cost_by_tenant_and_feature"].columns)
    assert frame["total_cost_usd"].dtype == "float64"
    rows = answers.ask_published("cost_by_tenant_and_feature", published).rows
    assert frame["total_cost_usd"].sum() == pytest.approx(float(sum(row[2] for row in rows)), abs=1e-12)
    assert frame["margin_usd"].isna().all()
    assert len(governance_pipeline.answer("unsafe_routes", since="1h", threshold=0.5)) > 0


@pytest.mark.parametrize(
    ("since", "meant"),
    [
        (None, None),
        ("90m", AS_OF - timedelta(minutes=90)),
        ("24h", AS_OF - timedelta(hours=24)),
        ("7d", AS_OF - timedelta(days=7)),
        ("1.5h", AS_OF - timedelta(minutes=90)),
        (timedelta(days=2), AS_OF - timedelta(days=2)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        (datetime(2026, 11, 1, 10), datetime(2026, 11, 1, 10, tzinfo=UTC)),  # noqa: DTZ001  (naive is UTC)
    ],
)
def test_since_counts_back_from_the_logs_own_now(since: answers.Since, meant: datetime | None) -> None:
    assert answers.since_instant(since, AS_OF) == meant


@pytest.mark.parametrize(
    "since", ["yesterday", "7 fortnights", "-3d", "", timedelta(days=-1), "9" * 400 + "d"]
)
def test_a_since_that_means_nothing_is_refused(since: answers.Since) -> None:
    with pytest.raises(BadInput):
        answers.since_instant(since, AS_OF)


def test_an_unknown_question_is_refused_with_the_five(settings: Settings) -> None:
    with pytest.raises(BadInput, match=r"cost_by_tenant_and_feature.*unsafe_routes"):
        answers.ask("why", settings)
