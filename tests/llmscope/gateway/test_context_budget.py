"""A conversation made into one prompt within a budget of tokens (seed 001)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmscope.errors import ConfigurationError, ContextTooLargeError
from llmscope.gateway.context_budget import ContextStrategy, TokenContextBudget, prepare_context
from llmscope.gateway.tokens import estimate_tokens

TWELVE = [f"what was said {number}" for number in range(12)]


async def test_full_sends_every_turn_and_the_message() -> None:
    fitted = await prepare_context(["hello", "hi there"], "and now?", strategy="full")
    assert fitted.prompt == "Turn 0: hello\nTurn 1: hi there\nCurrent: and now?"
    assert (fitted.strategy_applied, fitted.omitted_turns) == ("full", 0)
    assert fitted.tokens == estimate_tokens(fitted.prompt)


async def test_sliding_window_sends_the_last_turns_under_their_own_numbers() -> None:
    """The application of seed 001 numbered what was left from 0 again, as if nothing had gone before."""
    fitted = await prepare_context(TWELVE, "and now?", strategy="sliding_window")
    assert fitted.prompt.splitlines() == [
        *(f"Turn {number}: what was said {number}" for number in (7, 8, 9, 10, 11)),
        "Current: and now?",
    ]
    assert (fitted.strategy_applied, fitted.omitted_turns) == ("sliding_window", 7)


async def test_a_history_shorter_than_the_window_is_sent_whole() -> None:
    fitted = await prepare_context(["one", "two"], "three", strategy="sliding_window", window_turns=5)
    assert fitted.prompt == "Turn 0: one\nTurn 1: two\nCurrent: three"
    assert fitted.omitted_turns == 0


async def test_a_window_of_no_turns_sends_the_message_alone() -> None:
    fitted = await prepare_context(TWELVE, "and now?", strategy="sliding_window", window_turns=0)
    assert (fitted.prompt, fitted.omitted_turns) == ("Current: and now?", 12)


@pytest.mark.parametrize("strategy", ["full", "sliding_window", "summarized"])
async def test_without_a_history_the_prompt_is_the_message(strategy: ContextStrategy) -> None:
    fitted = await prepare_context([], "just this", strategy=strategy)
    assert (fitted.prompt, fitted.omitted_turns) == ("just this", 0)


async def test_summarized_sends_ten_turns_whole() -> None:
    fitted = await prepare_context(TWELVE[:10], "and now?", strategy="summarized")
    assert (fitted.strategy_applied, fitted.omitted_turns) == ("full", 0)
    assert fitted.prompt.count("Turn ") == 10


async def test_summarized_without_a_summary_names_how_many_turns_are_missing() -> None:
    fitted = await prepare_context(TWELVE, "and now?", strategy="summarized")
    assert fitted.prompt.splitlines() == [
        "[7 earlier turns omitted]",
        *(f"Turn {number}: what was said {number}" for number in (7, 8, 9, 10, 11)),
        "Current: and now?",
    ]
    assert (fitted.strategy_applied, fitted.omitted_turns) == ("summarized", 7)


async def test_ten_turns_that_do_not_fit_are_summarized_too() -> None:
    long = ["word " * 100] * 6 + ["short"] * 4
    fitted = await prepare_context(long, "and now?", strategy="summarized", max_context_tokens=300)
    assert (fitted.strategy_applied, fitted.omitted_turns) == ("summarized", 5)


async def test_a_summary_is_made_of_the_turns_left_out_plainly_or_as_a_coroutine() -> None:
    seen: list[Sequence[str]] = []

    def plain(turns: Sequence[str]) -> str:
        seen.append(turns)
        return "they greeted each other"

    async def as_coroutine(turns: Sequence[str]) -> str:
        return plain(turns)

    prompts = set()
    for summarize in (plain, as_coroutine):
        fitted = await prepare_context(TWELVE, "and now?", strategy="summarized", summarize=summarize)
        prompts.add(fitted.prompt)
        assert fitted.omitted_turns == 7
    assert seen == [TWELVE[:7], TWELVE[:7]]
    (prompt,) = prompts
    assert prompt.startswith("Summary of 7 earlier turns: they greeted each other\nTurn 7: ")


async def test_a_summary_that_fails_reaches_the_caller_before_anything_is_bought() -> None:
    def fails(turns: Sequence[str]) -> str:
        raise ConnectionError("the summarizer is away")

    with pytest.raises(ConnectionError, match="summarizer is away"):
        await prepare_context(TWELVE, "now", strategy="summarized", summarize=fails)


@pytest.mark.parametrize(
    ("strategy", "history"),
    [
        ("full", ["word " * 400]),
        ("sliding_window", ["short", *(["word " * 100] * 5)]),
        ("summarized", [*(["short"] * 10), *(["word " * 100] * 5)]),
        ("full", []),
    ],
)
async def test_what_the_strategy_keeps_must_fit(strategy: ContextStrategy, history: list[str]) -> None:
    message = "word " * 400 if not history else "and now?"
    with pytest.raises(ContextTooLargeError) as caught:
        await prepare_context(history, message, strategy=strategy, max_context_tokens=300)
    assert caught.value.tokens > caught.value.max_tokens == 300
    assert "word word" not in str(caught.value)


async def test_the_budget_is_reached_exactly_and_not_passed() -> None:
    history, message = ["one two three"], "four five six"
    tokens = (await prepare_context(history, message)).tokens
    assert (await prepare_context(history, message, max_context_tokens=tokens)).tokens == tokens
    with pytest.raises(ContextTooLargeError):
        await prepare_context(history, message, max_context_tokens=tokens - 1)


@given(
    st.lists(st.text(max_size=40), max_size=14),
    st.text(max_size=60),
    st.sampled_from(["full", "sliding_window", "summarized"]),
    st.integers(1, 120),
    st.integers(0, 12),
)
async def test_whatever_comes_out_fits_and_keeps_the_last_turns(
    history: list[str], message: str, strategy: ContextStrategy, budget: int, window: int
) -> None:
    fitting = TokenContextBudget(strategy, budget, window)
    try:
        fitted = await fitting.fit(history, message)
    except ContextTooLargeError:
        return
    assert estimate_tokens(fitted.prompt) == fitted.tokens <= budget
    kept = "\n".join(f"Turn {number}: {turn}" for number, turn in enumerate(history))
    kept = kept[kept.index(f"Turn {fitted.omitted_turns}:") :] if fitted.omitted_turns < len(history) else ""
    expected = (f"{kept}\n" if kept else "") + (f"Current: {message}" if history else message)
    assert fitted.prompt.endswith(expected)


async def test_tokens_are_counted_by_whatever_counts_them() -> None:
    budget = TokenContextBudget(max_context_tokens=10, count_tokens=len)
    assert (await budget.fit([], "0123456789")).tokens == 10
    with pytest.raises(ContextTooLargeError):
        await budget.fit([], "0123456789a")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "slidng"}, "there are: full, sliding_window, summarized"),
        ({"max_context_tokens": 0}, "at least 1"),
        ({"window_turns": -1}, "must not be negative"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_built(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TokenContextBudget(**arguments)  # type: ignore[arg-type]


async def test_one_text_is_not_taken_for_a_history_of_letters() -> None:
    with pytest.raises(ConfigurationError, match="sequence of turns"):
        await prepare_context("hello", "and now?")
