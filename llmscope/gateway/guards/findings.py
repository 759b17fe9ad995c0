"""What is found in a text, and what finds it.

What does not belong here: the kinds of finders (`addresses`, `numbers`), what becomes of what they find
(`redaction`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

PiiKind = Literal["email", "phone", "ssn", "iban", "card"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Personal data at `text[begin:end]`."""

    kind: PiiKind
    begin: int
    end: int


class Finder(Protocol):
    """Finds kinds of data. Whether something begins at a place depends on at most `CONTEXT_CHARACTERS`
    before it and on a bounded number behind it, so that a stream can be searched as it comes."""

    def first_from(self, text: str, begin: int) -> Finding | None:
        """The first finding that lies in `text[begin:]`; what stands before is looked at as context."""

    def open_from(self, text: str, begin: int) -> int:
        """The first place from `begin` on where what is found depends on what follows the text;
        `len(text)` if there is none. It may be too early, never too late."""


# The farthest that a finder looks back from where a finding begins.
CONTEXT_CHARACTERS = 48
