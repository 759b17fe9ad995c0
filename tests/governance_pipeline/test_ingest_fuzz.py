"""A corpus of everything that has been seen in log files, and worse: nothing of it stops an ingest, nothing
is lost, and no sum is wrong."""

from __future__ import annotations

import json
import random
from collections import Counter
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import duckdb
import pytest

from governance_pipeline.ingest import _readers, _run, ingest
from governance_pipeline.staging import build_stg_requests

LINES = 10_000
QUANTUM = Decimal("0.000000001")


def good(luck: random.Random, number: int) -> bytes:
    event = {
        "request_id": f"r{number}",
        "timestamp": "2026-03-24T10:00:00.5+00:00",
        "tenant_id": luck.choice(["acme", "été 🚀", "\u0000nul", "tab\there", "ünï", "{}", "\\\"'"]),
        "estimated_cost_usd": luck.choice(
            [luck.random(), luck.random() / 1e6, 0, 3, 1.5e-9, 2.5e-9, 1e-12, None]
        ),
        "status": luck.choice(["success", "error", "cached"]),
        "cost_source": luck.choice(["estimated_local_snapshot", "degraded_unknown"]),
        "latency_ms": luck.choice([1, 2.5, 1e300, -1, None]),
        "tokens_in": luck.choice([0, 10, 10.0, 2**53 - 1]),
        "audit_tags": {"feature_id": luck.choice(["x", 1, True, None])},
        "unknown": {"deep": [[["ok"]]], "😀": None},
    }
    return json.dumps(event, ensure_ascii=luck.random() < 0.5).encode()


def bad(luck: random.Random, number: int) -> bytes:
    whole = good(luck, number)
    choices = [
        lambda: whole[: luck.randrange(1, len(whole) - 1)],
        lambda: bytes(luck.randrange(256) for _ in range(luck.randrange(1, 200))).replace(b"\n", b"\0"),
        lambda: b'{"timestamp":"2026-03-24T10:00:00Z","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        lambda: whole.replace(b'"tokens_in"', b'"latency_ms":' + b"9" * 400 + b',"tokens_in"'),
        lambda: whole[:-1] + b',"cost_usd":' + luck.choice([b"NaN", b"Infinity", b"-1", b"1e999", b'"1.25"', b"1e9"]) + b"}",
        lambda: whole[:-1] + b',"tokens_out":' + luck.choice([b"-1", b"1.5", b"1e30", b"9007199254740992"]) + b"}",
        lambda: whole[:-1] + b',"audit_tags":' + luck.choice([b'"text"', b"[1,]", b"[]", b"7"]) + b"}",
        lambda: whole[:-1] + b',"timestamp":' + luck.choice([b'"yesterday"', b"null", b"7", b'"1970-01-01T00:00:00Z"']) + b"}",
        lambda: whole[:-1] + b',"pad":"' + b"x" * (2 << 20) + b'"}' if number % 97 == 0 else b"null",
        lambda: whole + b" " + whole,
        lambda: luck.choice([b"[]", b"7", b'"text"', b"true", b"{}", b"{", b"}", b"\xef\xbb\xbf" + whole]),
        lambda: whole.replace(b'"tenant_id"', b'"tenant_\xff"'),
    ]  # fmt: skip
    return luck.choice(choices)()


def corpus(seed: int) -> list[bytes]:
    luck = random.Random(seed)
    made = []
    for number in range(LINES):
        draw = luck.random()
        if draw < 0.6:
            made.append(good(luck, number))
        elif draw < 0.65:
            twice = b',"estimated_cost_usd":0.25,"status":"ok","estimated_cost_usd":0.125}'
            made.append(good(luck, number)[:-1] + twice)
        elif draw < 0.7:
            made.append(luck.choice([b"", b" ", b"\t\r", b"\r"]))
        else:
            made.append(bad(luck, number))
    return made


def plain_sum(lines: list[bytes], offsets: set[int]) -> Decimal:
    """The sum of known costs of the lines at `offsets`, by json and Decimal alone."""
    total, offset = Decimal(0), 0
    for line in lines:
        if offset in offsets:
            event = json.loads(line)
            cost = event.get("estimated_cost_usd")
            if cost is None:
                cost = event.get("cost_usd")
            unknown = event.get("status") == "error" and event.get("cost_source") == "degraded_unknown"
            if cost is not None and not unknown:
                total += Decimal(repr(cost)).quantize(QUANTUM, rounding=ROUND_HALF_EVEN)
        offset += len(line) + 1
    return total


@pytest.mark.parametrize("block_bytes", [50_000, 8 << 20])
def test_rows_and_rejects_and_blanks_are_all_the_lines_and_no_sum_is_wrong(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_lines = _run.whole_lines
    monkeypatch.setattr(
        _run, "whole_lines", lambda *args, **more: whole_lines(*args, **more, block_bytes=block_bytes)
    )
    lines = corpus(seed=11)
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    report = ingest(warehouse, telemetry=[path], decisions=[])
    assert report.new_rows + report.new_rejects + report.blanks == len(lines)
    assert report.blanks == sum(not line.strip() for line in lines)
    assert report.new_rows > len(lines) / 2
    assert report.bytes_read == path.stat().st_size

    taken = {row[0] for row in warehouse.execute("SELECT line_offset FROM raw.telemetry").fetchall()}
    refused = {row[0] for row in warehouse.execute("SELECT line_offset FROM raw.rejected_lines").fetchall()}
    assert (len(taken), len(refused)) == (report.new_rows, report.new_rejects)
    assert not taken & refused
    assert build_stg_requests(warehouse) == report.new_rows, "no two lines of the corpus share an id"
    staged = warehouse.execute("SELECT sum(cost_usd) FROM staging.stg_requests").fetchall()[0][0]
    assert staged == plain_sum(lines, taken)
    reasons = Counter(row[0] for row in warehouse.execute("SELECT reason FROM raw.rejected_lines").fetchall())
    assert reasons.keys() == {
        "not_json", "not_utf8", "not_an_object", "too_long", "wrong_type", "bad_cost", "bad_tokens",
        "missing_timestamp", "bad_timestamp", "absurd_timestamp",
    }  # fmt: skip


def test_a_reader_that_swallows_a_line_would_be_seen(
    warehouse: duckdb.DuckDBPyConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: rejects that are dropped break the count."""
    monkeypatch.setattr(_readers, "reject_of", lambda *_: _readers.Reject(0, 0, "", "", b""))
    monkeypatch.setattr("governance_pipeline.ingest._load.FileLoader._insert_rejects", lambda self: None)
    lines = corpus(seed=11)[:200]
    path = tmp_path / "telemetry.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    report = ingest(warehouse, telemetry=[path], decisions=[])
    assert report.new_rows + report.new_rejects + report.blanks != len(lines)
