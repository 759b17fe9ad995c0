"""A judge that the user supplies."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from llmscope.errors import ConfigurationError
from llmscope.gateway.guards.moderation import ModerationGuard
from llmscope.gateway.stages import GuardVerdict


def flags_violence(text: str) -> list[str]:
    return ["violence"] if "fight" in text else []


async def flags_violence_later(text: str) -> list[str]:
    return flags_violence(text)


@pytest.mark.parametrize("moderate", [flags_violence, flags_violence_later])
async def test_a_flag_blocks_and_is_named(moderate: Callable[[str], object]) -> None:
    guard = ModerationGuard(moderate)  # type: ignore[arg-type]
    assert await guard.check("a fight", "in") == GuardVerdict("block", "a fight", ("moderation:violence",))
    assert await guard.check("a walk", "out") == GuardVerdict("pass", "a walk")


async def test_a_judge_may_say_yes_or_no() -> None:
    guard = ModerationGuard(lambda text: "fight" in text, action="warn")
    assert await guard.check("a fight", "in") == GuardVerdict("warn", "a fight", ("moderation",))
    assert await guard.check("a walk", "in") == GuardVerdict("pass", "a walk")


async def test_only_its_directions_are_judged() -> None:
    guard = ModerationGuard(flags_violence, directions=["in"])
    assert (await guard.check("a fight", "out")).action == "pass"
    assert guard.stream() is None


@pytest.mark.parametrize(("on_error", "action"), [("allow", "warn"), ("block", "block")])
async def test_a_judge_that_fails_is_noted_and_decides_as_told(
    on_error: str, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(text: str) -> bool:
        raise TimeoutError(f"no judgement of {text!r}")

    guard = ModerationGuard(fails, on_error=on_error)  # type: ignore[arg-type]
    with caplog.at_level(logging.DEBUG):
        verdict = await guard.check("a secret", "in")
    assert (verdict.action, verdict.text, verdict.classes) == (action, "a secret", ("moderation_failed",))
    assert "TimeoutError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_judgement_that_is_none_is_a_failure() -> None:
    guard = ModerationGuard(lambda text: None, on_error="block")  # type: ignore[arg-type,return-value]
    assert (await guard.check("a walk", "in")).classes == ("moderation_failed",)


def test_a_streamed_answer_is_held_until_it_was_judged() -> None:
    stream = ModerationGuard(flags_violence).stream()
    assert stream is not None
    assert [stream.feed("a wa"), stream.feed("lk")] == ["", ""]
    assert stream.finish() == "a walk"
    assert stream.verdict == GuardVerdict("pass", "a walk")


def test_nothing_of_a_streamed_answer_that_is_flagged_comes_through() -> None:
    stream = ModerationGuard(flags_violence).stream()
    assert stream is not None
    assert stream.feed("a fi") + stream.feed("ght") + stream.finish() == ""
    assert stream.verdict == GuardVerdict("block", "", ("moderation:violence",))


def test_a_coroutine_cannot_judge_a_stream_and_says_so() -> None:
    with pytest.raises(ConfigurationError, match="plain function"):
        ModerationGuard(flags_violence_later).stream()
    assert ModerationGuard(flags_violence_later, directions=["in"]).stream() is None


class Opaque:
    """A callable that does not look like a coroutine function."""

    def __init__(self, moderate: Callable[[str], object]) -> None:
        self._moderate = moderate

    def __call__(self, text: str) -> object:
        return self._moderate(text)


def test_an_awaitable_that_shows_only_when_asked_is_a_failure_on_a_stream() -> None:
    stream = ModerationGuard(Opaque(flags_violence_later), on_error="block").stream()  # type: ignore[arg-type]
    assert stream is not None
    stream.feed("a walk")
    assert (stream.finish(), stream.verdict.action) == ("", "block")


@pytest.mark.parametrize(
    "arguments", [{"action": "redact"}, {"on_error": "deny"}, {"directions": []}, {"directions": ["both"]}]
)
def test_a_word_that_is_none_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="of a moderation guard"):
        ModerationGuard(flags_violence, **arguments)  # type: ignore[arg-type]
