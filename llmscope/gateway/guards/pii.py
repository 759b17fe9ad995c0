"""Personal data: blocked, redacted or noted, on the way in and on the way out.

What does not belong here: how it is found (`addresses`, `numbers`), how it is written over (`redaction`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from llmscope.errors import ConfigurationError
from llmscope.gateway.guards.addresses import EmailFinder, IbanFinder
from llmscope.gateway.guards.findings import Finder, PiiKind
from llmscope.gateway.guards.numbers import NumberFinder
from llmscope.gateway.guards.redaction import Stretch, Unfinished, findings_in, placeholder
from llmscope.gateway.stages import Direction, GuardAction, GuardVerdict, StreamGuard

ALL_KINDS: tuple[PiiKind, ...] = get_args(PiiKind)
_SEVERITY: dict[GuardAction, int] = {"pass": 0, "warn": 1, "redact": 2, "block": 3}

Actions = GuardAction | Mapping[PiiKind, GuardAction]


class PiiGuard:
    """Finds e-mail addresses, phone numbers, social security numbers, IBANs and cards.

    Args:
        kinds: what is looked for at all: any of `email`, `phone`, `ssn`, `iban`, `card`.
        action_in: what follows for a prompt: `block`, `redact` (`[EMAIL]` stands in its place), `warn` (it
            is noted, and goes on) or `pass` (it is not looked for); one for all kinds, or one by kind, where
            a kind without one passes.
        action_out: the same for an answer.

    Raises:
        ConfigurationError: a kind or an action that there is none of.
    """

    def __init__(
        self,
        *,
        kinds: Sequence[PiiKind] = ALL_KINDS,
        action_in: Actions = "redact",
        action_out: Actions = "redact",
    ) -> None:
        self._by_direction: dict[Direction, _Rules] = {
            "in": _Rules(_actions("action_in", kinds, action_in)),
            "out": _Rules(_actions("action_out", kinds, action_out)),
        }

    async def check(self, text: str, direction: Direction) -> GuardVerdict:
        """Judge one whole text. What was found to block is written over too: `text` never holds it."""
        rules = self._by_direction[direction]
        if not rules.finders:
            return GuardVerdict("pass", text)
        pieces: list[str] = []
        found: set[PiiKind] = set()
        begin = 0
        for finding in findings_in(text, rules.finders):
            found.add(finding.kind)
            if rules.actions[finding.kind] != "warn":
                pieces += (text[begin : finding.begin], placeholder(finding.kind))
                begin = finding.end
        if not found:
            return GuardVerdict("pass", text)
        pieces.append(text[begin:])
        return rules.verdict(found, "".join(pieces))

    def stream(self) -> StreamGuard | None:
        """A guard for a streamed answer, or None if answers are not looked at."""
        rules = self._by_direction["out"]
        return _PiiStream(rules) if rules.finders else None


class _Rules:
    """What is looked for in one direction, and what follows."""

    def __init__(self, actions: Mapping[PiiKind, GuardAction]) -> None:
        self.actions = actions
        self.finders: list[Finder] = []
        if "email" in actions:
            self.finders.append(EmailFinder())
        if "iban" in actions:
            self.finders.append(IbanFinder())
        if any(kind in actions for kind in NumberFinder.KINDS):
            self.finders.append(NumberFinder(tuple(actions)))

    def verdict(self, found: set[PiiKind], text: str) -> GuardVerdict:
        action: GuardAction = "pass"
        for kind in found:
            action = max(action, self.actions[kind], key=_SEVERITY.__getitem__)
        return GuardVerdict(action, text, tuple(sorted(found)), has_pii=bool(found))


class _PiiStream:
    """Lets an answer through up to what may yet be personal data; nothing from a blocked finding on."""

    def __init__(self, rules: _Rules) -> None:
        self._rules = rules
        self._unfinished = Unfinished(rules.finders)
        self._let_through = ""
        self._found: set[PiiKind] = set()
        self._is_blocked = False

    def feed(self, piece: str) -> str:
        """Take the next piece; returns the text that can be let through now."""
        return "" if self._is_blocked else self._let(self._unfinished.grow(piece))

    def finish(self) -> str:
        """The rest, at the end of the answer."""
        return "" if self._is_blocked else self._let(self._unfinished.finish())

    @property
    def verdict(self) -> GuardVerdict:
        """What was found so far (`text` is everything let through)."""
        return self._rules.verdict(self._found, self._let_through)

    def _let(self, settled: list[Stretch]) -> str:
        pieces = []
        for text, finding in settled:
            if finding is None:
                pieces.append(text)
                continue
            self._found.add(finding.kind)
            action = self._rules.actions[finding.kind]
            if action == "block":
                self._is_blocked = True
                break
            pieces.append(text if action == "warn" else placeholder(finding.kind))
        through = "".join(pieces)
        self._let_through += through
        return through


def _actions(name: str, kinds: Sequence[PiiKind], actions: Actions) -> dict[PiiKind, GuardAction]:
    by_kind = dict.fromkeys(kinds, actions) if isinstance(actions, str) else dict(actions)
    for kind in (*kinds, *by_kind):
        if kind not in ALL_KINDS:
            raise ConfigurationError(
                f"unknown kind of personal data {kind!r}; there are: {', '.join(ALL_KINDS)}"
            )
    for action in by_kind.values():
        if action not in _SEVERITY:
            raise ConfigurationError(f"unknown {name} {action!r}; there are: {', '.join(_SEVERITY)}")
    return {kind: action for kind, action in by_kind.items() if kind in kinds and action != "pass"}
