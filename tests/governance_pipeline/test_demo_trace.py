"""The bundled trace: every row, as published, and where in time the replay puts it."""

from __future__ import annotations

import gzip
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from governance_pipeline.demo import trace
from governance_pipeline.demo.errors import TraceError
from governance_pipeline.demo.trace import (
    CHAT,
    CODE,
    HOUR_US,
    TRACE_FILES,
    every_nth,
    load_trace,
    shift_hours,
    trace_folder,
)
from llmscope.timestamps import from_micros


def _published_totals(feature_id: str) -> tuple[int, int, int]:
    """Rows, context and generated tokens by cutting the published text, without the parser under test."""
    text = gzip.decompress((trace_folder() / TRACE_FILES[feature_id]).read_bytes()).decode()
    lines = text.split("\r\n")[1:]
    return (
        len(lines),
        sum(int(line.rsplit(",", 2)[1]) for line in lines),
        sum(int(line.rsplit(",", 1)[1]) for line in lines),
    )


@pytest.mark.parametrize(("feature_id", "published"), [(CODE, 8_819), (CHAT, 19_366)])
def test_every_published_row_is_read_with_its_tokens(feature_id: str, published: int) -> None:
    rows = [row for row in load_trace() if row.feature_id == feature_id]
    tokens = (sum(row.context_tokens for row in rows), sum(row.generated_tokens for row in rows))
    assert (len(rows), *tokens) == _published_totals(feature_id)
    assert len(rows) == published


def test_rows_come_in_order_of_arrival_at_the_published_instants() -> None:
    rows = load_trace()
    arrivals = [row.arrival_us for row in rows]
    assert arrivals == sorted(arrivals)
    assert from_micros(arrivals[0]) == datetime(2023, 11, 16, 18, 15, 46, 680590, tzinfo=UTC)
    assert from_micros(arrivals[-1]) == datetime(2023, 11, 16, 19, 14, 19, 928016, tzinfo=UTC)


@pytest.mark.parametrize("seconds", [0, 1, 859, 860, 861, 1800, 3599])
def test_the_last_request_lies_within_the_hour_before_the_run(seconds: int) -> None:
    rows = load_trace()
    now = datetime(2026, 3, 29, 1, 0, 0, tzinfo=UTC) + timedelta(seconds=seconds)
    last = from_micros(rows[-1].arrival_us + shift_hours(rows, now) * HOUR_US)
    assert now - timedelta(hours=1) < last <= now


def test_a_thinner_trace_keeps_both_services_and_their_order() -> None:
    rows = every_nth(load_trace(), 9)
    assert {row.feature_id for row in rows} == {CODE, CHAT}
    assert len(rows) == -(-8_819 // 9) + -(-19_366 // 9)
    assert [row.arrival_us for row in rows] == sorted(row.arrival_us for row in rows)


@pytest.mark.parametrize(
    "content",
    [b"TIMESTAMP,ContextTokens\r\n", b"TIMESTAMP,ContextTokens,GeneratedTokens\r\nnoon,1,2"],
    ids=["columns", "instant"],
)
def test_a_file_that_is_not_the_trace_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    for name in TRACE_FILES.values():
        (tmp_path / name).write_bytes(gzip.compress(content))
    with pytest.raises(TraceError, match=r"2023_code\.csv\.gz"):
        load_trace(tmp_path)


def test_a_missing_or_torn_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"2023_code\.csv\.gz"):
        load_trace(tmp_path)
    whole = (trace_folder() / TRACE_FILES[CODE]).read_bytes()
    (tmp_path / TRACE_FILES[CODE]).write_bytes(whole[:10_000])
    with pytest.raises(TraceError, match=r"2023_code\.csv\.gz"):
        load_trace(tmp_path)


def test_an_installed_package_brings_the_trace_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = tmp_path / "governance_pipeline" / "_data" / "traces"
    monkeypatch.setattr(trace, "__file__", str(tmp_path / "governance_pipeline" / "demo" / "trace.py"))
    with pytest.raises(TraceError, match="reinstall"):
        trace_folder()
    shutil.copytree(Path(__file__).resolve().parents[2] / "fixtures" / "traces", bundled)
    assert trace_folder() == bundled


def test_the_attribution_lies_beside_the_files() -> None:
    notice = (trace_folder() / "README.md").read_text(encoding="utf-8")
    for part in ("CC BY 4.0", "Azure Public Dataset", "Splitwise", "Pratyush Patel", "ISCA 2024"):
        assert part in notice
