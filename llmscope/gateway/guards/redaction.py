"""Writing over what was found: in a whole text, and in one that arrives in pieces.

Both go through the same steps, from the left: the first finding, then the first behind it. A stream takes a
step once nothing that may follow can change it, so that what comes out does not depend on how the text was
cut into pieces.

What does not belong here: what is found (`findings`), what follows for the call (`pii`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmscope.gateway.guards.findings import CONTEXT_CHARACTERS, Finder, Finding, PiiKind

# A piece of text, and the finding that it is, if it is one.
Stretch = tuple[str, "Finding | None"]


def placeholder(kind: PiiKind) -> str:
    """What stands in the place of a finding: `[EMAIL]`."""
    return f"[{kind.upper()}]"


def findings_in(text: str, finders: Sequence[Finder], begin: int = 0) -> Iterator[Finding]:
    """What the finders find in `text[begin:]`, from the left and without overlap. Of findings that begin at
    one place the one of the first finder counts."""
    ahead = [finder.first_from(text, begin) for finder in finders]
    while True:
        first = min((found for found in ahead if found is not None), key=_begin, default=None)
        if first is None:
            return
        yield first
        begin = first.end
        for number, found in enumerate(ahead):
            if found is not None and found.begin < begin:
                ahead[number] = finders[number].first_from(text, begin)


def _begin(finding: Finding) -> int:
    return finding.begin


class Unfinished:
    """A text that is still growing, searched as far as nothing that follows can change what is found."""

    def __init__(self, finders: Sequence[Finder]) -> None:
        self._finders = finders
        # What finders may look back at, and behind it what has not been given out.
        self._text = ""
        self._begin = 0

    def grow(self, piece: str) -> list[Stretch]:
        """Add a piece; what is certain now, in order."""
        self._text += piece
        return self._settle(is_finished=False)

    def finish(self) -> list[Stretch]:
        """The rest."""
        return self._settle(is_finished=True)

    def _settle(self, *, is_finished: bool) -> list[Stretch]:
        text = self._text
        settled: list[Stretch] = []
        begin = self._begin
        end = len(text) if is_finished else self._open_from(begin)
        for found in findings_in(text, self._finders, begin):
            if found.begin >= end:
                break
            settled.append((text[begin : found.begin], None))
            settled.append((text[found.begin : found.end], found))
            begin = found.end
            if not is_finished:
                end = self._open_from(begin)
        settled.append((text[begin:end], None))
        begin = end
        forgotten = max(0, begin - CONTEXT_CHARACTERS)
        self._text = text[forgotten:]
        self._begin = begin - forgotten
        return settled

    def _open_from(self, begin: int) -> int:
        return min(finder.open_from(self._text, begin) for finder in self._finders)
