"""From what vendors report to counts in which nothing stands twice, row by row."""

from __future__ import annotations

from typing import Any

import pytest

from llmscope.gateway.provider.usage import (
    UNKNOWN_USAGE,
    Usage,
    anthropic_usage,
    chat_usage,
    finish_reason_of,
    responses_usage,
)


def chat(
    tokens_in: Any, tokens_out: Any, total: Any = None, *, cached: Any = None, reasoning: Any = None
) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        pytest.param(chat(100, 7, 107), Usage(100, 7), id="plain"),
        pytest.param(chat(100, 7), Usage(100, 7), id="no total"),
        pytest.param(chat(100, 7, 0), Usage(100, 7), id="a total of nothing says nothing"),
        pytest.param(chat(100.0, 7.0, 107.0), Usage(100, 7), id="whole numbers written as fractions"),
        pytest.param(chat(100, 7, 107, cached=40), Usage(100, 7, 40), id="cached within the input"),
        pytest.param(
            chat(100, 50, 150, reasoning=30), Usage(100, 50, reasoning_tokens=30), id="reasoning within"
        ),
        pytest.param(
            chat(100, 20, 150, reasoning=30), Usage(100, 50, reasoning_tokens=30), id="reasoning beside, in total"
        ),
        pytest.param(
            chat(100, 20, 150), Usage(100, 50, reasoning_tokens=30), id="reasoning in the total only"
        ),
        pytest.param(
            chat(100, 20, reasoning=30), Usage(100, 50, reasoning_tokens=30), id="more reasoning than output"
        ),
        pytest.param(
            chat(100, 50, reasoning=30), Usage(100, 50, reasoning_tokens=30), id="reasoning within, no total"
        ),
        pytest.param(chat(100, 20, 120, reasoning=30), UNKNOWN_USAGE, id="reasoning beyond output and total"),
        pytest.param(chat(100, 7, 107, cached=130), UNKNOWN_USAGE, id="more cached than input"),
        pytest.param(chat(100, 7, 107, cached=-1), UNKNOWN_USAGE, id="negative part"),
        pytest.param(chat(100, 7, 107, cached="40"), UNKNOWN_USAGE, id="a part in quotes"),
        pytest.param(chat(100, None, 107), UNKNOWN_USAGE, id="null"),
        pytest.param(chat("100", 7), UNKNOWN_USAGE, id="in quotes"),
        pytest.param(chat(-100, 7), UNKNOWN_USAGE, id="negative"),
        pytest.param(chat(100.5, 7), UNKNOWN_USAGE, id="half a token"),
        pytest.param(chat(True, 7), UNKNOWN_USAGE, id="true"),
        pytest.param(chat(2**53, 7), UNKNOWN_USAGE, id="beyond what a line may say"),
        pytest.param(chat(float("inf"), 7), UNKNOWN_USAGE, id="infinite"),
        pytest.param(chat(float("nan"), 7), UNKNOWN_USAGE, id="no number"),
        pytest.param({"prompt_tokens": 5, "completion_tokens": 1}, Usage(5, 1), id="without details"),
        pytest.param(
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": "none"}, Usage(5, 1),
            id="details that are none",
        ),
        pytest.param({}, UNKNOWN_USAGE, id="empty"),
        pytest.param(None, UNKNOWN_USAGE, id="missing"),
        pytest.param([1, 2], UNKNOWN_USAGE, id="a list"),
    ],
)  # fmt: skip
def test_a_chat_completions_usage_counts_everything_once(reported: Any, usage: Usage) -> None:
    assert chat_usage(reported) == usage


def test_the_responses_api_says_the_same_in_other_words() -> None:
    reported = {
        "input_tokens": 100, "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 107,
    }  # fmt: skip
    assert responses_usage(reported) == Usage(100, 7, 40, 10, 2)
    assert chat_usage(reported) == UNKNOWN_USAGE


def test_anthropics_cached_and_written_input_is_part_of_the_whole() -> None:
    reported = {
        "input_tokens": 50, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 40, "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 2},
    }  # fmt: skip
    assert anthropic_usage(reported) == Usage(100, 7, 40, 10, 2)
    assert anthropic_usage({"input_tokens": 50, "output_tokens": 7}) == Usage(50, 7)


def test_what_anthropic_keeps_for_an_hour_is_part_of_what_it_wrote() -> None:
    def reported(for_an_hour: Any) -> dict[str, Any]:
        split = {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": for_an_hour}
        return {
            "input_tokens": 50,
            "cache_creation_input_tokens": 10,
            "cache_creation": split,
            "output_tokens": 7,
        }

    assert anthropic_usage(reported(6)) == Usage(60, 7, 0, 10, cache_write_1h_tokens=6)
    assert anthropic_usage(reported(None)) == Usage(60, 7, 0, 10)
    for odd in (-1, "6", 11):
        assert anthropic_usage(reported(odd)) == UNKNOWN_USAGE
    start, end = reported(6), {"output_tokens": 9}
    assert anthropic_usage(start, end) == Usage(60, 9, 0, 10, cache_write_1h_tokens=6)


def test_the_counts_of_an_anthropic_stream_are_cumulative_not_summed() -> None:
    first = {"input_tokens": 50, "cache_read_input_tokens": 40, "output_tokens": 1}
    last = {"input_tokens": None, "output_tokens": 7}
    assert anthropic_usage(first, last) == Usage(90, 7, 40)
    corrected = {"input_tokens": 55, "cache_read_input_tokens": 45, "output_tokens": 7}
    assert anthropic_usage(first, corrected) == Usage(100, 7, 45)


@pytest.mark.parametrize("odd", [None, -1, "7", True, 0.5])
def test_odd_anthropic_counts_are_no_counts(odd: Any) -> None:
    assert anthropic_usage({"input_tokens": 50, "output_tokens": odd}) == UNKNOWN_USAGE
    assert anthropic_usage({"input_tokens": odd, "output_tokens": 7}) == UNKNOWN_USAGE
    assert anthropic_usage({"input_tokens": 50, "output_tokens": 7, "output_tokens_details": {
        "thinking_tokens": 8}}) == UNKNOWN_USAGE  # fmt: skip


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("stop", "stop"), ("end_turn", "stop"), ("stop_sequence", "stop"), ("eos_token", "stop"),
        ("length", "length"), ("max_tokens", "length"), ("max_output_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_calls", "tool_calls"), ("function_call", "tool_calls"), ("tool_use", "tool_calls"),
        ("content_filter", "content_filter"), ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"), ("", None), (None, None), (7, None),
    ],
)  # fmt: skip
def test_every_vendors_reason_is_told_in_one_vocabulary(given: Any, reason: str | None) -> None:
    assert finish_reason_of(given) == reason
