"""A judge of texts that the user supplies: a vendor's moderation endpoint, a classifier, a list of words.

What does not belong here: judges of our own (`pii`, `injection`).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Literal

from llmscope.errors import ConfigurationError
from llmscope.gateway.stages import Direction, GuardVerdict, StreamGuard

Judgement = bool | Iterable[str]
Moderate = Callable[[str], "Judgement | Awaitable[Judgement]"]

MODERATION_CLASS = "moderation"
MODERATION_FAILED_CLASS = "moderation_failed"

_log = logging.getLogger(__name__)


class ModerationGuard:
    """Asks `moderate` about each text.

    Args:
        moderate: given a text, tells whether it is flagged, or as which kinds (none: it is not), plainly or
            as a coroutine. A plain one runs on the event loop. It brings its own timeout.
        action: what follows from a flag: `block` or `warn`.
        on_error: what follows when `moderate` raises: `allow` (noted as `moderation_failed`) or `block`.
        directions: which texts are judged: prompts (`in`), answers (`out`).

    Raises:
        ConfigurationError: a word that is none of these.
    """

    def __init__(
        self,
        moderate: Moderate,
        *,
        action: Literal["block", "warn"] = "block",
        on_error: Literal["allow", "block"] = "allow",
        directions: Collection[Direction] = ("in", "out"),
    ) -> None:
        if action not in ("block", "warn"):
            raise ConfigurationError(f"action of a moderation guard must be block or warn, not {action!r}")
        if on_error not in ("allow", "block"):
            raise ConfigurationError(
                f"on_error of a moderation guard must be allow or block, not {on_error!r}"
            )
        if not directions or not set(directions) <= {"in", "out"}:
            raise ConfigurationError(f"directions of a moderation guard are in and out, not {directions!r}")
        self._moderate = moderate
        self._action: Literal["block", "warn"] = action
        self._on_error: Literal["allow", "block"] = on_error
        self._directions = frozenset(directions)

    async def check(self, text: str, direction: Direction) -> GuardVerdict:
        """Judge one whole text."""
        if direction not in self._directions:
            return GuardVerdict("pass", text)
        try:
            judgement = self._moderate(text)
            if inspect.isawaitable(judgement):
                judgement = await judgement
            return self._verdict(judgement, text)
        except Exception as error:  # noqa: BLE001  the user's code may raise anything; `on_error` says what follows
            return self._failed(error, text)

    def stream(self) -> StreamGuard | None:
        """A guard that holds an answer back to its end, for it is judged as a whole; None if answers are
        not judged.

        Raises:
            ConfigurationError: `moderate` is a coroutine function, which cannot be asked while an answer
                is handed on piece by piece.
        """
        if "out" not in self._directions:
            return None
        if inspect.iscoroutinefunction(self._moderate):
            raise ConfigurationError(
                "a streamed answer cannot be judged by a coroutine: give the moderation guard a plain "
                "function, or `directions: [in]` on routes that stream"
            )
        return _HeldAnswer(self)

    def judge_now(self, text: str) -> GuardVerdict:
        """Judge one whole text by a plain `moderate`."""
        try:
            judgement = self._moderate(text)
            if inspect.isawaitable(judgement):
                if inspect.iscoroutine(judgement):
                    judgement.close()
                raise TypeError("moderate returned an awaitable for a streamed answer")
            return self._verdict(judgement, text)
        except Exception as error:  # noqa: BLE001  as in `check`
            return self._failed(error, text)

    def _verdict(self, judgement: Judgement, text: str) -> GuardVerdict:
        if isinstance(judgement, bool):
            kinds = {MODERATION_CLASS} if judgement else set()
        else:
            kinds = {f"{MODERATION_CLASS}:{kind}" for kind in judgement}
        return GuardVerdict(self._action if kinds else "pass", text, tuple(sorted(kinds)))

    def _failed(self, error: Exception, text: str) -> GuardVerdict:
        # Its kind only: a message may quote the text.
        _log.warning("a moderation callable failed (%s): %s", type(error).__name__, self._on_error)
        action: Literal["block", "warn"] = "block" if self._on_error == "block" else "warn"
        return GuardVerdict(action, text, (MODERATION_FAILED_CLASS,))


class _HeldAnswer:
    """Lets nothing through before the end."""

    def __init__(self, guard: ModerationGuard) -> None:
        self._guard = guard
        self._pieces: list[str] = []
        self._verdict = GuardVerdict("pass", "")

    def feed(self, piece: str) -> str:
        """Take the next piece; returns nothing yet."""
        self._pieces.append(piece)
        return ""

    def finish(self) -> str:
        """The whole answer, unless it is blocked."""
        verdict = self._guard.judge_now("".join(self._pieces))
        through = "" if verdict.action == "block" else verdict.text
        self._verdict = GuardVerdict(verdict.action, through, verdict.classes)
        return through

    @property
    def verdict(self) -> GuardVerdict:
        """What was found; nothing before the end."""
        return self._verdict
