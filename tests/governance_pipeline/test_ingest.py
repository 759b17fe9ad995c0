"""Every byte of every log becomes one row, one reject or a blank, exactly once, whatever happens to the
files between two ingests."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest

from governance_pipeline.errors import IngestBusy, IngestError, ReadersDisagree
from governance_pipeline.ingest import _files, _ledger, _load, _readers, _run, ingest
from governance_pipeline.sql_files import load_sql, parse_sql
from llmscope.event_log import MAX_LINE_BYTES


def line(number: int, **more: Any) -> bytes:
    event = {
        "request_id": f"r{number}",
        "timestamp": "2026-03-24T10:00:00Z",
        "estimated_cost_usd": 0.001,
        **more,
    }
    return json.dumps(event).encode() + b"\n"


def lines(first: int, last: int) -> bytes:
    return b"".join(line(number, pad="x" * 200) for number in range(first, last))


def ids(con: duckdb.DuckDBPyConnection) -> list[int]:
    rows = con.execute("SELECT CAST(request_id[2:] AS INT) FROM raw.telemetry ORDER BY 1").fetchall()
    return [row[0] for row in rows]


def take(con: duckdb.DuckDBPyConnection, *telemetry: Path | str, **more: Any) -> _run.IngestReport:
    return ingest(con, telemetry=list(telemetry), decisions=[], **more)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "telemetry.jsonl"


@pytest.fixture(autouse=True)
def _folder(log: Path) -> None:
    log.parent.mkdir()


def test_only_what_is_new_is_taken(warehouse: duckdb.DuckDBPyConnection, log: Path) -> None:
    log.write_bytes(lines(0, 20))
    assert take(warehouse, log).new_rows == 20
    assert take(warehouse, log).bytes_read == 0
    with log.open("ab") as file:
        file.write(lines(20, 23))
    report = take(warehouse, log)
    assert (report.new_rows, report.bytes_read) == (3, len(lines(20, 23)))
    assert ids(warehouse) == list(range(23))


def test_an_offset_that_is_not_kept_would_double_the_rows(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the one above."""
    monkeypatch.setattr(_ledger.Ledger, "save", lambda self, con: True)
    log.write_bytes(lines(0, 20))
    take(warehouse, log)
    take(warehouse, log)
    assert ids(warehouse) != list(range(20))


def test_an_unterminated_tail_waits_for_its_newline(warehouse: duckdb.DuckDBPyConnection, log: Path) -> None:
    whole = line(0) + line(1)
    log.write_bytes(whole[:-10])
    report = take(warehouse, log)
    assert (report.new_rows, report.pending_bytes) == (1, len(line(1)) - 10)
    log.write_bytes(whole)
    assert take(warehouse, log).new_rows == 1
    assert ids(warehouse) == [0, 1]


def test_an_unterminated_tail_of_a_file_handed_over_is_a_line(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    log.write_bytes((line(0) + line(1))[:-1])
    (log.parent / "telemetry.jsonl.1").write_bytes(line(7))
    assert take(warehouse, log, complete=True).new_rows == 2
    assert ids(warehouse) == [0, 1], "siblings of a file handed over are not looked for"


def test_every_row_and_reject_keeps_its_file_and_byte_offset(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [
        line(0),
        b"\n",
        b"not json\n",
        line(1),
        b"  \t\r\n",
        line(2, pad="é" * 99),
        b"\xff\xfe{}\n",
        line(3),
    ]
    data = b"".join(pieces)
    log.write_bytes(data)
    report = take(warehouse, log)
    assert (report.new_rows, report.new_rejects, report.blanks) == (4, 2, 2)
    for offset, request_id in warehouse.execute(
        "SELECT line_offset, request_id FROM raw.telemetry"
    ).fetchall():
        assert json.loads(data[offset:].split(b"\n")[0])["request_id"] == request_id
    rejects = warehouse.execute(
        "SELECT path, line_offset, line_bytes, reason, line_head FROM raw.rejected_lines ORDER BY 2"
    ).fetchall()
    assert [reject[3] for reject in rejects] == ["not_json", "not_utf8"]
    for path, offset, length, _, head in rejects:
        assert path == str(log)
        assert head == data[offset : offset + length]
        assert data[offset + length : offset + length + 1] == b"\n"


def test_rename_rotation_and_compression_lose_and_double_nothing(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    log.write_bytes(lines(0, 10))
    take(warehouse, log)
    with log.open("ab") as file:
        file.write(lines(10, 15))
    first = log.rename(log.with_name("telemetry.jsonl.1"))
    log.write_bytes(lines(15, 18))
    take(warehouse, log)
    assert ids(warehouse) == list(range(18))
    compressed = log.with_name("telemetry.jsonl.1.gz")
    compressed.write_bytes(gzip.compress(first.read_bytes() + lines(18, 20) + line(20)[:-1]))
    take(warehouse, log)  # plain and compressed stand side by side
    first.unlink()
    take(warehouse, log)
    assert ids(warehouse) == list(range(21)), "an unterminated tail of a gzip file is a line"
    assert warehouse.execute("SELECT count(*) FROM raw.ingest_files").fetchall() == [(2,)]


def test_a_compressed_file_read_to_its_end_is_not_read_again(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    archive = log.with_name("telemetry.jsonl.1.gz")
    archive.write_bytes(gzip.compress(lines(0, 5)))
    assert take(warehouse, log).new_rows == 5
    assert take(warehouse, log).files == ()
    archive.rename(log.with_name("telemetry.jsonl.2.gz"))
    assert take(warehouse, log).bytes_read == 0


def test_a_file_known_by_its_name_would_double_rotated_rows(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: without the fingerprint a renamed file is taken again."""
    monkeypatch.setattr(_ledger.KnownFile, "begins", lambda self, head: False)
    log.write_bytes(lines(0, 5))
    take(warehouse, log)
    log.rename(log.with_name("telemetry.jsonl.1"))
    take(warehouse, log)
    assert ids(warehouse) != list(range(5))


def test_a_file_smaller_than_its_fingerprint_is_known_as_it_grows(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    data = b"".join(line(number) for number in range(40))
    for end in [*range(0, len(data), 97), len(data)]:
        log.write_bytes(data[:end])
        take(warehouse, log)
    assert ids(warehouse) == list(range(40))
    rows = warehouse.execute("SELECT fingerprint_length, ingested_bytes FROM raw.ingest_files").fetchall()
    assert rows == [(1024, len(data))]


def test_copy_truncate_is_another_file(warehouse: duckdb.DuckDBPyConnection, log: Path) -> None:
    log.write_bytes(lines(0, 20))
    take(warehouse, log)
    shutil.copy(log, log.with_name("telemetry.jsonl.1"))
    os.truncate(log, 0)
    take(warehouse, log)
    with log.open("ab") as file:
        file.write(lines(20, 22))
    take(warehouse, log)
    with log.open("ab") as file:
        file.write(lines(22, 60))
    take(warehouse, log)
    assert ids(warehouse) == list(range(60))


def test_a_copy_that_is_not_finished_is_not_another_file(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    log.write_bytes(lines(0, 20))
    take(warehouse, log)
    log.with_name("telemetry.jsonl.1").write_bytes(lines(0, 12))
    take(warehouse, log)
    assert ids(warehouse) == list(range(20))


def test_a_file_cut_short_in_place_is_another_file(warehouse: duckdb.DuckDBPyConnection, log: Path) -> None:
    log.write_bytes(lines(0, 20))
    take(warehouse, log)
    log.write_bytes(lines(0, 12))
    take(warehouse, log)
    assert ids(warehouse) == sorted([*range(20), *range(12)])


def test_an_incomplete_gzip_file_is_reported_and_read_on_later(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    data = b"".join(line(number, pad=os.urandom(200).hex()) for number in range(2000))
    whole = gzip.compress(data)
    archive = log.with_name("telemetry.jsonl.1.gz")
    archive.write_bytes(whole[: len(whole) // 2])
    report = take(warehouse, log)
    assert 0 < report.new_rows < 2000
    assert report.new_rejects == 0, "where the file breaks off is no line"
    assert "incomplete" in report.problems[0]
    archive.write_bytes(whole)
    assert take(warehouse, log).problems == ()
    assert ids(warehouse) == list(range(2000))


def test_several_files_of_a_pattern_are_each_taken(warehouse: duckdb.DuckDBPyConnection, log: Path) -> None:
    for number in range(4):
        (log.parent / f"worker-{number}.jsonl").write_bytes(lines(number * 10, number * 10 + 10))
    (log.parent / "worker-9.jsonl.lock").write_bytes(b"")
    take(warehouse, str(log.parent / "worker-*"), log)
    assert ids(warehouse) == list(range(40))


def test_the_same_file_under_two_names_is_taken_once(warehouse: duckdb.DuckDBPyConnection, log: Path) -> None:
    log.write_bytes(lines(0, 5))
    os.link(log, log.with_name("telemetry.jsonl.1"))
    take(warehouse, log, str(log.parent / "*.jsonl"))
    assert ids(warehouse) == list(range(5))


def test_missing_and_empty_logs_are_empty(warehouse: duckdb.DuckDBPyConnection, log: Path) -> None:
    assert take(warehouse, log).files == ()
    log.write_bytes(b"")
    report = take(warehouse, log)
    assert (report.new_rows, report.bytes_read) == (0, 0)


def test_a_file_that_cannot_be_read_is_named(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(lines(0, 1))

    def refuse(self: _files.LogFile, path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_files.LogFile, "__init__", refuse)
    with pytest.raises(IngestError, match=r"telemetry\.jsonl cannot be read: Permission denied"):
        take(warehouse, log)


@pytest.mark.parametrize("block_bytes", [1 << 20, 3 << 19, 8 << 20])
def test_an_overlong_line_is_one_reject_wherever_blocks_end(
    warehouse: duckdb.DuckDBPyConnection, log: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 2 * MAX_LINE_BYTES, 5 * MAX_LINE_BYTES + 7]
    long_lines = [
        line(number, pad="x" * (size - len(line(number, pad="")) + 1)) for number, size in enumerate(sizes)
    ]
    assert [len(long) - 1 for long in long_lines] == sizes
    log.write_bytes(b"".join(long + line(100 + number) for number, long in enumerate(long_lines)))
    whole_lines = _run.whole_lines
    monkeypatch.setattr(
        _run, "whole_lines", lambda *args, **more: whole_lines(*args, **more, block_bytes=block_bytes)
    )
    report = take(warehouse, log)
    assert (report.new_rows, report.new_rejects) == (5, 3)
    rejects = warehouse.execute(
        "SELECT line_bytes, reason, octet_length(line_head) FROM raw.rejected_lines ORDER BY line_offset"
    ).fetchall()
    assert rejects == [(size, "too_long", 4096) for size in sizes[1:]]
    assert ids(warehouse) == [0, 100, 101, 102, 103]


def test_an_overlong_line_without_an_end_stays_pending(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    log.write_bytes(line(0) + b"x" * (3 * MAX_LINE_BYTES))
    assert (take(warehouse, log).new_rows, take(warehouse, log).new_rejects) == (1, 0)
    with log.open("ab") as file:
        file.write(b"\n" + line(1))
    report = take(warehouse, log)
    assert (report.new_rows, report.new_rejects) == (1, 1)


def test_telemetry_is_fixed_before_decisions(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written while the ends are being fixed, no telemetry is taken before its decision."""
    decisions = log.with_name("policy_decisions.jsonl")
    log.write_bytes(b"")
    decisions.write_bytes(b"")
    written = 0

    def one_more_request() -> None:
        nonlocal written
        for path in (decisions, log):
            with path.open("ab") as file:
                file.write(line(written))
        written += 1

    opened = _files.LogFile.__init__

    def open_while_requests_arrive(self: _files.LogFile, path: Path) -> None:
        one_more_request()
        opened(self, path)
        one_more_request()

    monkeypatch.setattr(_files.LogFile, "__init__", open_while_requests_arrive)
    for _ in range(3):
        ingest(warehouse, telemetry=[log], decisions=[decisions])
        orphans = warehouse.execute(
            "SELECT count(*) FROM raw.telemetry ANTI JOIN raw.policy_decisions USING (request_id)"
        ).fetchall()
        assert orphans == [(0,)]
    assert warehouse.execute("SELECT count(*) > 0 FROM raw.telemetry").fetchall() == [(True,)]


def test_a_rotation_while_files_are_opened_hides_no_decision(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(line(1))
    rotated = False
    find = _files.find_log_files

    def rotate_after_the_first_look(named: Any, *, siblings: bool) -> list[Path]:
        nonlocal rotated
        found = find(named, siblings=siblings)
        if not rotated:
            rotated = True
            log.rename(log.with_name("telemetry.jsonl.1"))
            log.write_bytes(line(2))
        return found

    monkeypatch.setattr(_files, "find_log_files", rotate_after_the_first_look)
    take(warehouse, log)
    assert ids(warehouse) == [1, 2]


def test_a_failure_half_way_commits_nothing(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write_bytes(lines(0, 5) + b"torn\n")
    other = log.with_name("other.jsonl")
    other.write_bytes(lines(5, 9))
    read = _readers.LineReader.read

    def fail_on_the_second(self: _readers.LineReader, block: Any) -> Any:
        if b'"r5"' in bytes(block.data):
            raise MemoryError
        return read(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(_readers.LineReader, "read", fail_on_the_second)
        with pytest.raises(MemoryError):
            take(warehouse, log, other)
    for table in ("telemetry", "rejected_lines", "ingest_files"):
        assert warehouse.table(f"raw.{table}").fetchall() == []
    take(warehouse, log, other)
    assert ids(warehouse) == list(range(9))


def test_two_ingests_through_one_process_never_take_a_byte_twice(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    log.write_bytes(lines(0, 5000))
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with warehouse.cursor() as con:
                take(con, log)
        except (IngestError, duckdb.Error) as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert ids(warehouse) == list(range(5000))


def test_an_ingest_that_goes_on_for_too_long_is_reported(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    with warehouse.cursor() as other:
        other.begin()
        other.execute("UPDATE raw.ingest_turn SET turn = turn + 1")
        with pytest.raises(IngestBusy):
            take(warehouse, log, wait_seconds=0.1)
        other.rollback()
    take(warehouse, log)


@pytest.mark.parametrize("insert", ["", " WHERE line_offset > 0"])
def test_a_disagreement_between_python_and_sql_is_never_silent(
    warehouse: duckdb.DuckDBPyConnection, log: Path, monkeypatch: pytest.MonkeyPatch, insert: str
) -> None:
    """SQL is handed an instant that it cannot read, or passes over a line."""
    log.write_bytes(line(0) if insert else line(0).replace(b"10:00:00Z", b"noon"))
    statement = load_sql("raw/insert_telemetry")
    narrowed = parse_sql(statement.name, f"{statement.text.strip()}{insert}")
    monkeypatch.setattr(
        _load, "load_sql", lambda name: narrowed if name == statement.name else load_sql(name)
    )
    monkeypatch.setattr(_readers, "are_all_canonical", lambda texts: True)
    with pytest.raises(ReadersDisagree, match="after byte 0"):
        take(warehouse, log)
    assert warehouse.table("raw.ingest_files").fetchall() == []


def test_a_key_that_stands_twice_is_read_with_its_last_value(
    warehouse: duckdb.DuckDBPyConnection, log: Path
) -> None:
    log.write_bytes(
        b'{"request_id":"r1","timestamp":"2026-03-24T10:00:00Z","tenant_id":"a","tenant_id":"b",'
        b'"audit_tags":{"feature_id":"c","feature_id":"d"},"audit_tags":{"experiment_id":"e"}}\n'
    )
    take(warehouse, log)
    rows = warehouse.execute(
        "SELECT tenant_id, audit_tags.feature_id, audit_tags.experiment_id FROM raw.telemetry"
    )
    assert rows.fetchall() == [("b", None, "e")]
