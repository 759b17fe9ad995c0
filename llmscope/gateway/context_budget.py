"""Making one prompt of a conversation, within a number of tokens.

What does not belong here: counting tokens (`tokens`), looking at what is said (`guards`), when a call is
refused for its length (`pipeline`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, get_args

from llmscope.errors import ConfigurationError, ContextTooLargeError
from llmscope.gateway.stages import FittedContext
from llmscope.gateway.tokens import estimate_tokens

ContextStrategy = Literal["full", "sliding_window", "summarized"]
Summarize = Callable[[Sequence[str]], "str | Awaitable[str]"]

DEFAULT_MAX_CONTEXT_TOKENS = 8192
DEFAULT_WINDOW_TURNS = 5
# A history up to this long is sent whole by `summarized`, if it fits (seed 001's application).
_TURNS_NOT_SUMMARIZED = 10


class TokenContextBudget:
    """A budget in tokens, and what to leave out to keep it.

    The prompt has a line `Turn i: …` for each turn kept and ends with `Current: …`; `i` is the turn's
    place in the whole conversation, from 0, whatever was left out before it. Without a history the prompt
    is the message as it is.

    Args:
        strategy: `full` keeps every turn; `sliding_window` the last `window_turns`; `summarized` keeps
            every turn of a history of at most ten that fits, and otherwise the last `window_turns` and a
            summary of those before.
        max_context_tokens: the most that a prompt may have.
        window_turns: how many turns are kept word for word.
        summarize: makes a summary of the turns left out (oldest first), plainly or as a coroutine. What it
            raises reaches the caller. Without it a line says how many were left out.
        count_tokens: counts a text's tokens; the estimate that the gate reserves by, unless given.

    Raises:
        ConfigurationError: an unknown strategy, or a number below its least.
    """

    def __init__(
        self,
        strategy: ContextStrategy = "full",
        max_context_tokens: int = DEFAULT_MAX_CONTEXT_TOKENS,
        window_turns: int = DEFAULT_WINDOW_TURNS,
        summarize: Summarize | None = None,
        *,
        count_tokens: Callable[[str], int] = estimate_tokens,
    ) -> None:
        if strategy not in get_args(ContextStrategy):
            known = ", ".join(get_args(ContextStrategy))
            raise ConfigurationError(f"unknown context strategy {strategy!r}; there are: {known}")
        if max_context_tokens < 1:
            raise ConfigurationError(f"max_context_tokens must be at least 1, not {max_context_tokens}")
        if window_turns < 0:
            raise ConfigurationError(f"window_turns must not be negative: {window_turns}")
        self.strategy: ContextStrategy = strategy
        self.max_context_tokens = max_context_tokens
        self.window_turns = window_turns
        self._summarize = summarize
        self._count_tokens = count_tokens

    async def fit(self, history: Sequence[str], message: str) -> FittedContext:
        """The prompt for `message` after `history` (oldest first).

        Raises:
            ContextTooLargeError: what the strategy keeps does not fit; nothing further is left out.
            ConfigurationError: `history` is one text instead of a sequence of them.
        """
        if isinstance(history, str):
            raise ConfigurationError("history is a sequence of turns, not one text: pass [text]")
        if self.strategy == "sliding_window":
            return self._within_budget(history, message, omitted=len(history) - self.window_turns)
        if self.strategy == "summarized" and len(history) > self.window_turns:
            if len(history) <= _TURNS_NOT_SUMMARIZED:
                whole = self._assemble(history, message, omitted=0, strategy="full")
                if whole.tokens <= self.max_context_tokens:
                    return whole
            return await self._summarized(history, message)
        return self._within_budget(history, message, omitted=0, strategy="full")

    async def _summarized(self, history: Sequence[str], message: str) -> FittedContext:
        omitted = len(history) - self.window_turns
        about = f"[{omitted} earlier turns omitted]"
        if self._summarize is not None:
            summary = self._summarize(list(history[:omitted]))
            if inspect.isawaitable(summary):
                summary = await summary
            about = f"Summary of {omitted} earlier turns: {summary}"
        return self._within_budget(history, message, omitted=omitted, about=about)

    def _within_budget(
        self,
        history: Sequence[str],
        message: str,
        *,
        omitted: int,
        about: str | None = None,
        strategy: ContextStrategy | None = None,
    ) -> FittedContext:
        fitted = self._assemble(history, message, omitted=omitted, about=about, strategy=strategy)
        if fitted.tokens > self.max_context_tokens:
            raise ContextTooLargeError(fitted.tokens, self.max_context_tokens, fitted.strategy_applied)
        return fitted

    def _assemble(
        self,
        history: Sequence[str],
        message: str,
        *,
        omitted: int,
        about: str | None = None,
        strategy: ContextStrategy | None = None,
    ) -> FittedContext:
        omitted = max(0, omitted)
        lines = [] if about is None else [about]
        lines += [f"Turn {number}: {history[number]}" for number in range(omitted, len(history))]
        lines.append(f"Current: {message}" if history else message)
        prompt = "\n".join(lines)
        return FittedContext(prompt, self._count_tokens(prompt), strategy or self.strategy, omitted)


async def prepare_context(
    history: Sequence[str],
    message: str,
    *,
    strategy: ContextStrategy = "full",
    max_context_tokens: int = DEFAULT_MAX_CONTEXT_TOKENS,
    window_turns: int = DEFAULT_WINDOW_TURNS,
    summarize: Summarize | None = None,
) -> FittedContext:
    """The prompt for `message` after `history`, for callers that keep no `TokenContextBudget`.

    Raises:
        ContextTooLargeError, ConfigurationError: as `TokenContextBudget` and its `fit`.
    """
    budget = TokenContextBudget(strategy, max_context_tokens, window_turns, summarize)
    return await budget.fit(history, message)
