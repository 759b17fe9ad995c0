"""What ingest makes of bytes before DuckDB sees them: many lines at once give what each gives by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from governance_pipeline.ingest import _readers
from governance_pipeline.ingest._instants import are_all_canonical
from governance_pipeline.ingest._lines import Block, LongLine, whole_lines
from governance_pipeline.ingest._readers import Batch, LineReader, reader_for
from llmscope.errors import MalformedLine
from llmscope.telemetry_line import decode_telemetry_line
from llmscope.timestamps import EARLIEST_US, LATEST_US, format_micros, parse_micros

SOUND = b'{"timestamp":"2026-03-24T10:00:00.500000+00:00","request_id":"r1","u":{"v":[{}]}}'
ZULU = b'{"timestamp":"2026-03-24T10:00:00Z"}'
ABSURD = b'{"timestamp":"1999-12-31T23:59:59.999999+00:00"}'
# Whole ones and pieces that a reader which does not look at line ends would put together wrongly.
PIECES = st.sampled_from(
    [
        *(SOUND,) * 6, ZULU, ABSURD, b"", b" ", b"\r", SOUND + SOUND, SOUND + b" " + SOUND, SOUND + b"\r",
        b" " + SOUND, SOUND[:50], SOUND[50:], b'{"timestamp":"2026-03-24T10:00:00Z","u":', b'{}}', b"{}", b"[{}]",
        SOUND[:-1] + b',"u":"a}', b'{b"}', SOUND[:-1] + b',"u":[{}', b"{}]}", b'{"timestamp":7}', b"}", b"{",
        SOUND.replace(b"r1", "é🚀".encode()), SOUND.replace(b"v", b"\xff"), SOUND.replace(b"r1", b"a\xc3"),
        SOUND[:-1] + b',"cost_usd":-1}', SOUND[:-1] + b',"tenant_id":"a","tenant_id":"b"}',
    ]
)  # fmt: skip


def read(text: bytes) -> Batch:
    return reader_for("telemetry").read(Block(1000, memoryview(bytearray(text))))


def judged_alone(lines: list[bytes]) -> dict[int, str]:
    """What each line is, by where it begins: "row", "blank" or the reason of its rejection."""
    verdicts, offset = {}, 1000
    for line in lines:
        if not line.strip():
            verdicts[offset] = "blank"
        else:
            try:
                parse_micros(decode_telemetry_line(line).timestamp or "")
                verdicts[offset] = "row"
            except MalformedLine as malformed:
                verdicts[offset] = malformed.reason
        offset += len(line) + 1
    return verdicts


def assert_each_is_judged_as_alone(lines: list[bytes]) -> None:
    batch = read(b"".join(line + b"\n" for line in lines))
    expected = judged_alone(lines)
    offsets = batch.lines.column("line_offset").to_pylist()
    assert dict.fromkeys(offsets, "row") | {
        reject.line_offset: reject.reason for reject in batch.rejects
    } == {offset: verdict for offset, verdict in expected.items() if verdict != "blank"}
    assert batch.blanks == list(expected.values()).count("blank")
    by_offset = dict(zip(expected, lines, strict=True))
    for offset, encoded in zip(offsets, batch.lines.column("line").to_pylist(), strict=True):
        given_line, kept = json.loads(by_offset[offset]), json.loads(encoded)
        assert kept["timestamp"] == format_micros(parse_micros(given_line["timestamp"]))
        assert kept.get("request_id") == given_line.get("request_id")
        assert kept.get("tenant_id") == given_line.get("tenant_id"), "the last of two values counts"
    assert all(reject.head == by_offset[reject.line_offset] for reject in batch.rejects)


@given(st.lists(PIECES, min_size=1, max_size=24))
@example([b'{"timestamp":"2026-03-24T10:00:00Z","u":', b"{}}", SOUND + SOUND])
@example([SOUND[:-1] + b',"u":[{}', b"{}]}", SOUND + SOUND])
@example([b"", SOUND + SOUND])
def test_many_lines_at_once_are_judged_as_each_alone(lines: list[bytes]) -> None:
    assert_each_is_judged_as_alone(lines)


def test_a_reader_that_minds_no_line_ends_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: without looking at both ends of each line two objects on one make up for a blank one."""
    together = LineReader._read_together

    def careless(self: LineReader, block: Block, starts: Any, ends: Any, looks_whole: Any) -> Any:
        return together(self, block, starts, ends, np.ones_like(looks_whole))

    monkeypatch.setattr(LineReader, "_read_together", careless)
    with pytest.raises(AssertionError):
        assert_each_is_judged_as_alone([b"", SOUND + SOUND])


def test_groups_end_where_lines_do(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [SOUND, b"torn{", *(SOUND,) * 40, b"", ZULU, ABSURD, *(SOUND,) * 7]
    for group_bytes in (1, len(SOUND) + 1, 100, 1000, 1 << 20):
        monkeypatch.setattr(_readers, "_GROUP_BYTES", group_bytes)
        assert_each_is_judged_as_alone(lines)


INSTANTS = st.integers(EARLIEST_US, LATEST_US - 1).map(format_micros)


@given(st.lists(INSTANTS))
def test_what_our_own_writer_writes_is_canonical(instants: list[str]) -> None:
    leap_days = [text for text in instants if text[5:10] == "02-29"]
    assert are_all_canonical(instants) or leap_days


@given(
    st.lists(
        st.one_of(
            INSTANTS,
            st.sampled_from(["2026-03-24T10:00:00Z", "2026-02-30T10:00:00.000000+00:00", "", "\n", "9"]),
            st.builds(
                lambda text, place, put: text[:place] + put + text[place + 1 :],
                INSTANTS, st.integers(0, 32), st.sampled_from(["", "\n", "é", "9", "0", "x", "12", "１", "\0"]),
            ),
            st.builds("\n".join, st.lists(INSTANTS, min_size=2, max_size=3)),
        ),
        max_size=4,
    )
)  # fmt: skip
@example(["2026-03-24T10:00:00.500000+00:0", "02026-03-24T10:00:00.500000+00:00"])
@example(["2026-13-01T10:00:00.500000+00:00"])
@example(["2026-00-01T10:00:00.500000+00:00"])
@example(["2026-01-01T24:00:00.500000+00:00"])
def test_nothing_else_is_canonical(texts: list[str]) -> None:
    if are_all_canonical(texts):
        for text in texts:
            assert datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds") == text
            assert format_micros(parse_micros(text)) == text


def feeder(data: bytes) -> Callable[[memoryview], int]:
    rest = memoryview(data)

    def read_into(view: memoryview) -> int:
        nonlocal rest
        count = min(len(view), len(rest), 7)
        view[:count], rest = rest[:count], rest[count:]
        return count

    return read_into


@given(st.binary(max_size=60), st.booleans(), st.integers(1, 20))
def test_blocks_hold_every_byte_up_to_the_last_line_end(
    data: bytes, complete: bool, block_bytes: int
) -> None:
    end = 0
    taken = b""
    for piece in whole_lines(feeder(data), 5, complete=lambda: complete, block_bytes=block_bytes):
        assert not isinstance(piece, LongLine)
        assert piece.offset == 5 + end
        taken += bytes(piece.data)
        end = len(taken)
    assert taken == (data if complete else data[: data.rfind(b"\n") + 1])
