"""A batch says of every line what reading the line by itself says, or there is no batch."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmscope import telemetry_batch
from llmscope.errors import MalformedLine
from llmscope.money import to_nano, to_nanos
from llmscope.telemetry_batch import BatchReader
from llmscope.telemetry_line import TelemetryLine, Usage, read_usage
from llmscope.timestamps import parse_micros, parse_our_micros
from tests.policy_runtime.log_lines import encode, original_line

SAMPLES = sorted(Path("fixtures/dialects").glob("*.jsonl"))
PLAIN: list[dict[str, Any]] = [
    {},
    {"tenant_id": "größer"},
    {"tenant_id": None, "audit_tags": {"tenant_id": "tagged", "feature_id": "chat"}},
    {"audit_tags": {"use_case": "search", "unknown": [1]}, "use_case": None},
    {"status": "error", "cost_source": "degraded_unknown"},
    {"status": "error", "cost_source": "not_billed", "estimated_cost_usd": 0.0},
    {"status": "ok", "finish_reason": "length"},
    {"estimated_cost_usd": None},
    {"estimated_cost_usd": 3},
    {"estimated_cost_usd": 0.0000000025},
    {"estimated_cost_usd": 999_999_999.5},
    {"tokens_in": None, "tokens_out": None},
    {"tokens_out": 0},
    {"latency_ms": -1},
    {"model_tier": None, "caller_id": "", "experiment_id": "x"},
]
# Read by themselves, or rejected: each keeps the lines beside it from being read together.
ODD: list[dict[str, Any] | bytes] = [
    {"tenant_id": 7}, {"tenant_id": True}, {"audit_tags": {"feature_id": 1}}, {"audit_tags": []},
    {"request_id": ""}, {"request_id": 12}, {"event": "outcome"}, {"status": ""}, {"route": None},
    {"model_selected": None}, {"tokens_in": 1.0}, {"tokens_in": -1}, {"tokens_out": 1 << 53}, {"tokens_in": "1"},
    {"tokens": {"input": 3}}, {"cost_usd": 0.2}, {"metadata": {"tenant_id": "m"}}, {"latency_ms": "slow"},
    {"estimated_cost_usd": -0.1}, {"estimated_cost_usd": 1e9}, {"estimated_cost_usd": "1"}, {"attempts": 3},
    {"timestamp": "2026-03-24T10:00:00Z"}, {"timestamp": "2026-03-24T10:00:00.000000+05:30"},
    {"timestamp": "2026-W13-2T10:00:00.000000+00:00"}, {"timestamp": "2026-03-24T10:61:00.000000+00:00"},
    {"timestamp": "2026-03-24T24:00:00.000000+00:00"}, {"timestamp": "1999-12-31T23:59:59.999999+00:00"},
    {"timestamp": "2100-01-01T00:00:00.000000+00:00"}, {"timestamp": "２026-03-24T10:00:00.000000+00:00"},
    {"timestamp": None}, b"", b"   ", b"\r", b"{", b"[]", b"null", b"{}{}", b'{"tenant_id":"\xff"}', b"[" * 5000,
    b'{"request_id":"nan","estimated_cost_usd":NaN}',
]  # fmt: skip


def line(rng: random.Random, number: int, changes: dict[str, Any]) -> bytes:
    whole = original_line(rng.randrange(7200) + rng.random(), rng.randrange(10**10) / 1e10, f"r{number}")
    return encode({**whole, **changes})


def one_by_one(lines: list[bytes]) -> list[Usage]:
    usages = [read_usage(one, "") for one in lines]
    return [usage for usage in usages if usage is not None and usage.cost_nano is not None]


def told(usage: Usage) -> tuple[Any, ...]:
    """What a budget asks of a bill."""
    return (
        usage.request_id, usage.timestamp_us, usage.cost_nano, usage.tokens_in, usage.tokens_out, usage.tenant_id,
        usage.caller_id, usage.use_case, usage.feature_id, usage.experiment_id, usage.budget_namespace,
        usage.route_name, usage.model, usage.model_tier, usage.success,
    )  # fmt: skip


def read_together(reader: BatchReader, lines: list[bytes]) -> list[tuple[Any, ...]] | None:
    bills = reader.read(b"".join(one + b"\n" for one in lines))
    if bills is None:
        return None
    assert bills.at_us == sorted(bills.at_us)
    found = []
    for place, request_id in enumerate(bills.request_ids):
        like = reader.likes[bills.kinds[place]]
        assert like is not None
        of_it = bills.at_us[place], bills.cost_nano[place], bills.tokens[0][place], bills.tokens[1][place]
        found.append((request_id, *of_it, *told(like)[5:]))
    return found


def assert_alike(reader: BatchReader, lines: list[bytes]) -> None:
    together = read_together(reader, lines)
    assert together is not None
    usages = sorted(one_by_one(lines), key=lambda usage: usage.timestamp_us)
    assert sorted(together) == sorted(map(told, usages))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), kinds=st.integers(1, len(PLAIN)))
def test_lines_read_together_say_what_each_says_by_itself(seed: int, kinds: int) -> None:
    rng = random.Random(seed)
    reader, some = BatchReader(), rng.sample(PLAIN, kinds)
    for _ in range(3):
        lines = [line(rng, number, rng.choice(some)) for number in range(rng.randrange(1, 40))]
        assert_alike(reader, lines)


@pytest.mark.parametrize("learns_from", [1, 1000])
def test_twin_a_label_left_out_of_the_kind_is_seen(monkeypatch: pytest.MonkeyPatch, learns_from: int) -> None:
    monkeypatch.setattr(telemetry_batch, "_LEARN_FROM_LINES", learns_from)
    monkeypatch.setattr(telemetry_batch, "_LABELS", ("status",))
    rng = random.Random(3)
    lines = [line(rng, number, changes) for number, changes in enumerate(PLAIN)]
    with pytest.raises(AssertionError):
        assert_alike(BatchReader(), lines)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), kinds=st.integers(1, len(PLAIN)))
def test_a_reader_that_has_learnt_how_lines_look_reads_others_all_the_same(seed: int, kinds: int) -> None:
    """Whatever comes after what it has learnt: other labels, other keys, other orders of keys, odd lines."""
    rng = random.Random(seed)
    reader, some = BatchReader(), rng.sample(PLAIN, kinds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(telemetry_batch, "_LEARN_FROM_LINES", 2)
        assert_alike(reader, [line(rng, number, some[0]) for number in range(5)])
        for _ in range(8):
            lines = [line(rng, number, rng.choice(some)) for number in range(rng.randrange(1, 12))]
            if rng.random() < 0.3:
                lines = [shuffled(rng, one) for one in lines]
            assert_alike(reader, lines)
            odd = rng.choice(ODD)
            lines.insert(rng.randrange(len(lines)), odd if isinstance(odd, bytes) else line(rng, 99, odd))
            assert read_together(reader, lines) is None


def test_twin_what_was_learnt_is_checked_in_each_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_batch, "_LEARN_FROM_LINES", 2)
    monkeypatch.setattr(telemetry_batch, "_only", lambda name, value: (name, Any, None))
    reader, rng = BatchReader(), random.Random(1)
    assert_alike(reader, [line(rng, number, {}) for number in range(5)])
    with pytest.raises(AssertionError):
        assert_alike(reader, [line(rng, number, {"tenant_id": "another"}) for number in range(5)])


def test_kinds_that_all_lines_share_are_learnt() -> None:
    """Else the fast way is never taken."""
    reader, rng = BatchReader(), random.Random(1)
    for tenant in ("a", "a", "b", "c"):
        lines = [line(rng, number, {"tenant_id": tenant}) for number in range(150)]
        assert_alike(reader, lines)
    assert reader._shared is not None
    assert set(telemetry_batch._LABELS) - set(reader._shared) == {"tenant_id"}


def shuffled(rng: random.Random, text: bytes) -> bytes:
    """The same line with its keys in another order."""
    items = list(json.loads(text).items())
    rng.shuffle(items)
    return encode(dict([*items, ("a key of ours", {"deep": [1]}), ("class", 1), ("number", 2)]))


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_a_stretch_with_a_line_that_is_not_plain_has_no_batch(odd: dict[str, Any] | bytes) -> None:
    rng = random.Random(5)
    strange = odd if isinstance(odd, bytes) else line(rng, 0, odd)
    lines = [line(rng, number, PLAIN[0]) for number in range(1, 9)]
    for place in (0, 4, 8):
        assert read_together(BatchReader(), [*lines[:place], strange, *lines[place:]]) is None
    assert_alike(BatchReader(), lines)


@pytest.mark.parametrize("name", TelemetryLine.__struct_fields__)
def test_no_key_of_any_dialect_is_overlooked(name: str) -> None:
    """Beside a line without it, a line with the key says what it says by itself, or there is no batch."""
    rng = random.Random(7)
    tagged = {"tenant_id": "t", "use_case": "u"}
    values: tuple[Any, ...] = (
        "x",
        "",
        "error",
        1,
        2.5,
        True,
        False,
        None,
        tagged,
        [],
        {"input": 4},
        "2026-03-24T10:00:00.000001+00:00",
    )
    for value in values:
        for base in ({}, {"tenant_id": None, "status": "error"}):
            lines = [line(rng, 1, base), line(rng, 2, {**base, name: value}), line(rng, 3, base)]
            if read_together(BatchReader(), lines) is not None:
                assert_alike(BatchReader(), lines)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_dialect_is_read_together_as_by_itself_or_not_at_all(path: Path) -> None:
    """Alone and beside a plain line: where there is a batch, it says what the lines say."""
    for sample in path.read_bytes().splitlines():
        for lines in ([sample], [sample, line(random.Random(1), 1, {})]):
            if read_together(BatchReader(), lines) is not None:
                assert_alike(BatchReader(), lines)


@pytest.mark.parametrize("name", ["ours", "original_llmscope"])
def test_our_lines_and_the_originals_are_read_together(name: str) -> None:
    """The fast way is taken by what writes most telemetry, not only by the lines of this test."""
    usual = Path(f"fixtures/dialects/{name}.jsonl").read_bytes().splitlines()[0]
    assert read_together(BatchReader(), [usual])


def test_an_unterminated_or_overlong_stretch_has_no_batch() -> None:
    plain = line(random.Random(1), 1, {})
    assert BatchReader().read(plain) is None
    assert BatchReader().read(b"") is None
    assert BatchReader().read(plain[:-1] + b',"pad":"' + b"x" * (1 << 20) + b'"}\n') is None


def test_kinds_beyond_the_most_are_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_batch, "_MOST_KINDS", 5)
    reader, rng = BatchReader(), random.Random(2)
    for begin in range(0, 40, 4):
        lines = [line(rng, number, {"caller_id": f"c{number}"}) for number in range(begin, begin + 4)]
        assert_alike(reader, lines)
        assert len(reader.likes) <= 8


@given(st.lists(st.floats(0, 10**6) | st.integers(0, 10**9).map(lambda n: (2 * n + 1) / 2e9), max_size=20))
def test_many_amounts_are_quantised_as_each_is(amounts: list[float]) -> None:
    assert to_nanos(amounts) == [to_nano(amount) for amount in amounts]


@given(
    st.lists(
        st.datetimes().map(lambda at: at.isoformat(timespec="microseconds") + "+00:00"),
        min_size=1,
        max_size=9,
    )
)
def test_many_timestamps_of_ours_are_read_as_each_is(texts: list[str]) -> None:
    try:
        expected = [parse_micros(text) for text in texts]
    except MalformedLine:
        assert parse_our_micros(texts) is None
    else:
        assert parse_our_micros(texts) == expected


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["2026-03-24", "T10:00:00.000000+00:00"],
        ["2026-03-24T10:00:00.000000+00:0", "02026-03-24T10:00:00.000000+00:00"],
        ["2026-03-24T10:00:00.000000+01:00"],
        ["2026-02-30T10:00:00.000000+00:00"],
    ],
)
def test_what_is_not_in_our_form_is_left_to_be_read_by_itself(texts: list[str]) -> None:
    assert parse_our_micros(texts) is None
