"""Prompts that try to take a model over: told by what such prompts say.

Patterns find what is said plainly, also with odd spacing, letters that only look Latin, or invisible
characters in between. They do not find what is said indirectly, by story, in other encodings or in most
languages, and they cannot know who says it: a text about injections looks like one. This raises the price
of an attack; it does not end it. What a model may do must not depend on it.

What does not belong here: the patterns (`injection_patterns`), judges that understand (`moderation`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

from llmscope.errors import ConfigurationError
from llmscope.gateway.guards.injection_patterns import PATTERNS, InjectionPattern
from llmscope.gateway.stages import Direction, GuardVerdict, StreamGuard

INJECTION_CLASS = "prompt_injection"

# Letters that look Latin: the lower-case part of Unicode's confusables list (UTS 39), as far as Cyrillic,
# Greek and Armenian go, and Latin letters that no decomposition makes plain.
_LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһԛԝьвмнткгпѵ" "αορεντικυχηωβγμ" "օսոհց" "ıøłđɡɩ",
    "aeopcyxijsdhqwbbmhtkrnv" "aopevtikuxnwbyu" "ouuhg" "ioldgi",
)  # fmt: skip
_NEAR_LATIN = re.compile("[\u00f8\u0111\u0131\u0142\u0251-\u058f]")
# What takes no room: accents that stand apart after decomposition, joiners and other marks of format, tags.
_UNSEEN = re.compile(
    "[\u00ad\u0300-\u036f\u061c\u115f\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0000-\U000e01ef]+"
)


class PromptInjectionGuard:
    """Scores a prompt by the patterns found in it.

    Args:
        action: what follows from a score of `threshold` or more: `block` or `warn`.
        threshold: the weights of the patterns found are added up, each once; alone a plain attempt has 1.
        patterns: what is looked for.
        extra_patterns: regular expressions of one's own, of weight 1 each, searched in the text with its
            letters made small and plain and its blanks made single.

    Answers are not looked at. Raises:
        ConfigurationError: another action, a threshold of 0 or less, an expression that is none.
    """

    def __init__(
        self,
        *,
        action: Literal["block", "warn"] = "block",
        threshold: float = 1.0,
        patterns: Sequence[InjectionPattern] = PATTERNS,
        extra_patterns: Sequence[str] = (),
    ) -> None:
        if action not in ("block", "warn"):
            raise ConfigurationError(
                f"action of a prompt-injection guard must be block or warn, not {action!r}"
            )
        if not threshold > 0:
            raise ConfigurationError(
                f"threshold of a prompt-injection guard must be above 0, not {threshold}"
            )
        self._action = action
        self._threshold = threshold
        self._patterns = (*patterns, *map(_own_pattern, extra_patterns))
        self._triggers = tuple({trigger for pattern in self._patterns for trigger in pattern.triggers})

    async def check(self, text: str, direction: Direction) -> GuardVerdict:
        """Judge one whole text."""
        if direction == "out" or self.score(text) < self._threshold:
            return GuardVerdict("pass", text)
        return GuardVerdict(self._action, text, (INJECTION_CLASS,))

    def stream(self) -> StreamGuard | None:
        """None: answers are not looked at."""
        return None

    def found_in(self, text: str) -> tuple[str, ...]:
        """The names of the patterns found in `text`."""
        return tuple(pattern.name for pattern in self._found_in(text))

    def score(self, text: str) -> float:
        """The sum of their weights."""
        return sum(pattern.weight for pattern in self._found_in(text))

    def _found_in(self, text: str) -> list[InjectionPattern]:
        lines = plain_letters(text)
        flat = " ".join(lines.split())
        # Triggers are ASCII, and texts of one byte a character are searched in half the time.
        ascii_only = flat.encode("ascii", "replace").decode()
        present = {trigger for trigger in self._triggers if trigger in ascii_only}
        return [pattern for pattern in self._patterns if pattern.is_in(flat, lines, present)]


def plain_letters(text: str) -> str:
    """`text` in small letters, without accents, invisible characters and letters that only look Latin."""
    if text.isascii():
        return text.lower()
    plain = _UNSEEN.sub("", unicodedata.normalize("NFKD", text)).lower()
    return plain.translate(_LOOK_ALIKES) if _NEAR_LATIN.search(plain) else plain


def _own_pattern(expression: str) -> InjectionPattern:
    try:
        return InjectionPattern(f"own:{expression}", 1.0, re.compile(expression), frozenset())
    except re.error as exc:
        raise ConfigurationError(f"extra_patterns: {expression!r} is no regular expression: {exc}") from exc
