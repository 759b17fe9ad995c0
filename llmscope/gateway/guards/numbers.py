"""Cards, social security numbers and phone numbers in a text.

All of them are digits in groups, and most digits in groups are none of them: dates, prices, times, order
numbers, versions, addresses of machines. What tells them apart is their checksum (cards), the numbers that
were never given out (social security numbers), and the ways in which people write phone numbers: with a
country code, with the area in brackets, with a leading 0, in the groups of a country, or behind a word such
as "tel".

What does not belong here: numbers with letters in them (`addresses`), checksums (`checksums`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from llmscope.gateway.guards.checksums import is_card_number
from llmscope.gateway.guards.findings import CONTEXT_CHARACTERS, Finding, PiiKind

_BLANK = r"[ \u00a0\u202f]"
_HYPHEN = r"\-\u2010-\u2013"
# Between two groups of digits stands one sign, perhaps between blanks, or up to two blanks.
_SEPARATOR = rf"(?:{_BLANK}?[./{_HYPHEN}\u00b7]{_BLANK}?|{_BLANK}{{1,2}})"
# A further digit, behind a separator or a bracket or both: one way to match, whatever the groups.
_MORE = rf"(?:\)?{_SEPARATOR}?\(?[0-9])"
_RUN = re.compile(rf"[+(]{{0,2}}[0-9](?:[ \u00a0\u202f()./{_HYPHEN}\u00b7]{{0,3}}[0-9]){{6,}}")
# Where in a run a number may begin: not inside a word. Each shape says what else may not stand before it.
_START = re.compile(r"[0-9](?<!\w[0-9])[0-9]*|\+(?<!\w\+)|\((?<![0-9]\()")
# Not the decimals of a fraction; not the rest of a longer number; not the month of a date or the minutes.
_NOT_DECIMALS = r"(?<![0-9]\.)"
_NOT_A_REST = rf"(?<![0-9][.{_HYPHEN}])"
_BEGINS = rf"(?<![0-9][.:{_HYPHEN}])(?<!(?<![0-9])[0-9]/)(?<!(?<![0-9])[0-9][0-9]/)"
# The end of a text that more text may make such a number of, or a longer one.
_OPEN = re.compile(
    rf"(?:[0-9](?<!\w[0-9])|\+(?<!\w\+)|\((?<![0-9]\())[0-9 \u00a0\u202f()+./{_HYPHEN}\u00b7]*[,:]?\Z"
)
# The longest numbers: 15 digits of a phone with a bracket, a separator of three characters and another
# bracket between two of them, behind a bracket and a sign, and two more characters that tell that it ends.
_REACH = 2 + 15 + 14 * 5 + 2

_PHONE_WORD = re.compile(
    r"(?<![^\W_])(?:(?:tele)?(?:phones?|fon[oe]?s?|fax)|tel|mobile?|cell|celular|handy|hotline|whatsapp|sms|"
    r"call|calling|ring|dial|portable|m[oó]vil|t[eé]l(?:[eé]phone)?|ph|rückruf|appeler|llamar|landline|pager|"
    r"reach (?:me|us|him|her|them)|text me|nummer|durchwahl)(?![^\W_])[^]0-9\n]{0,24}\Z"
)
_GAP = re.compile(r"[^]0-9\n]{3,}")
_SSN_WORD = re.compile(
    r"(?<![^\W_])(?:ssns?|social|soc\.? ?sec|sozialversicherung\w*)(?![^\W_])[^]0-9\n]{0,28}\Z"
)
_DATE = re.compile(
    r"(?:19|20)\d\d[.\-/ ]?(?:0[1-9]|1[0-2])[.\-/ ]?(?:0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?:0?[1-9]|[12]\d|3[01])[.\-/](?:0?[1-9]|[12]\d|3[01])[.\-/](?:19|20)\d\d(?!\d)"
)


def _digits(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


def _follows(word: re.Pattern[str], text: str, begin: int) -> bool:
    before = text[max(0, begin - CONTEXT_CHARACTERS) : begin]
    # The word ends with a letter, and between it and the number stand no digits: most places fail on that.
    gap = _GAP.match(before[::-1])
    return gap is not None and word.search(before[len(before) - len(gap[0]) :].lower()) is not None


def _card(text: str, match: re.Match[str]) -> int | None:
    del text
    return match.end() if is_card_number(_digits(match[0])) else None


def _as_it_is(text: str, match: re.Match[str]) -> int | None:
    del text
    return match.end()


def _ssn_behind_its_word(text: str, match: re.Match[str]) -> int | None:
    return match.end() if _follows(_SSN_WORD, text, match.start()) else None


def _of_length(least: int, most: int) -> Callable[[str, re.Match[str]], int | None]:
    """Accepts so many digits; of more, the leading groups that are no more. A bracket around the whole is no
    part of it."""

    def accept(text: str, match: re.Match[str]) -> int | None:
        del text
        if match[0][0] == "(" and ")" not in match[0]:
            return None
        count, end = 0, None
        for group in re.finditer(r"[0-9]+", match[0]):
            count += len(group[0])
            if count > most:
                break
            if count >= least:
                end = match.start() + group.end()
        return end

    return accept


def _national(text: str, match: re.Match[str]) -> int | None:
    """A leading 0: the area may be set apart by another sign than the rest, the rest has one throughout.
    Between dots stand two or three digits."""
    area, *groups = re.split(r"[^0-9]+", match[0])
    separators = [separator.strip() for separator in re.findall(r"[^0-9]+", match[0])]
    if len(set(separators[1:])) > 1 or _DATE.match(match[0]):
        return None
    if "." in separators[1:] and (len(area) > 4 or max(map(len, groups)) > 3):
        return None
    return _of_length(9, 12)(text, match)


def _phone_behind_its_word(text: str, match: re.Match[str]) -> int | None:
    if _DATE.match(match[0]) or not _follows(_PHONE_WORD, text, match.start()):
        return None
    return _of_length(7, 15)(text, match)


_ENDS = r"(?!\w)(?![.:-][0-9])"
_SSN_NUMBER = r"(?!000|666|9)[0-9]{{3}}{0}(?!00)[0-9]{{2}}{1}(?!0000)[0-9]{{4}}"
_LEFT: dict[PiiKind, str] = {"card": _NOT_DECIMALS, "ssn": _NOT_A_REST, "phone": _BEGINS}
# A leading 0 says little where other digits stand before it: in the middle of an account, or of a row.
_ALONE = r"(?<![0-9][ \u00a0])"
_EXCHANGE = rf"[ ./{_HYPHEN}]"


@dataclass(frozen=True, slots=True)
class _Shape:
    """One way to write a number.

    Attributes:
        pattern: what it looks like, behind what may stand before its kind.
        accept: given the text and a match of `pattern`, where the number ends; None if it is none.
    """

    kind: PiiKind
    pattern: str
    accept: Callable[[str, re.Match[str]], int | None] = _as_it_is


# At one place the first that fits is taken.
_SHAPES = (
    _Shape("card", rf"[0-9]{{4}}(?:{_SEPARATOR}[0-9]{{4}}){{3}}{_SEPARATOR}[0-9]{{1,3}}(?!\w)", _card),
    _Shape("card", rf"[0-9]{{4}}(?:{_SEPARATOR}[0-9]{{4}}){{3}}(?!\w)", _card),
    _Shape("card", rf"[0-9]{{4}}(?:{_SEPARATOR}[0-9]{{4}}){{2}}{_SEPARATOR}[0-9]{{1,3}}(?!\w)", _card),
    _Shape("card", rf"[0-9]{{4}}{_SEPARATOR}[0-9]{{6}}{_SEPARATOR}[0-9]{{4,5}}(?!\w)", _card),
    _Shape("card", rf"[0-9]{{8}}{_SEPARATOR}[0-9]{{8}}(?!\w)", _card),
    _Shape("card", r"[0-9]{13,19}(?!\w)", _card),
    # In whatever groups, where no other digits stand beside it.
    _Shape(
        "card",
        r"(?<![0-9][ .\-\u00a0])[0-9](?:[ \-\u00a0]?[0-9]){12,18}(?!\w)(?![ .\-\u00a0][0-9])",
        _card,
    ),
    _Shape("ssn", _SSN_NUMBER.format(rf"[{_HYPHEN}]", rf"[{_HYPHEN}]") + r"(?!\w|-[0-9])"),
    _Shape("ssn", _SSN_NUMBER.format(r"[ .\-]?", r"[ .\-]?") + r"(?!\w)", _ssn_behind_its_word),
    # With a country code, the trunk prefix in brackets allowed: +49 (0)30 1234567.
    _Shape("phone", rf"\(?\+[1-9]{_MORE}{{7,14}}(?!\w)", _of_length(8, 15)),
    _Shape(
        "phone", rf"{_ALONE}00[1-9][0-9]{{0,2}}{_SEPARATOR}\(?[0-9]{_MORE}{{6,12}}(?!\w)", _of_length(10, 17)
    ),
    # North America: area and exchange begin with 2 to 9.
    _Shape(
        "phone",
        rf"(?:1{_EXCHANGE})?(?:\([2-9][0-9]{{2}}\) ?|[2-9][0-9]{{2}}{_EXCHANGE})"
        rf"[2-9][0-9]{{2}}{_EXCHANGE}[0-9]{{4}}{_ENDS}",
    ),
    # The area in brackets: (030) 1234567, (11) 91234-5678.
    _Shape(
        "phone",
        rf"\((?:0[0-9]{{1,5}}|[1-9][0-9]{{1,2}})\){_SEPARATOR}?[0-9]{{3,8}}"
        rf"(?:{_SEPARATOR}[0-9]{{2,5}}){{0,4}}(?!\w)",
        _of_length(8, 12),
    ),
    # A leading 0 and groups: 020 7946 0958, 06.12.34.56.78, 0171-1234567.
    _Shape(
        "phone",
        rf"{_ALONE}0[1-9][0-9]{{0,4}}{_SEPARATOR}[0-9]{{2,8}}(?:{_SEPARATOR}[0-9]{{2,5}}){{0,4}}{_ENDS}",
        _national,
    ),
    # India 98765 43210; China 138 1234 5678.
    _Shape("phone", rf"(?:[6-9][0-9]{{4}}[ -][0-9]{{5}}|1[3-9][0-9][ -][0-9]{{4}}[ -][0-9]{{4}}){_ENDS}"),
    # Anything with seven to fifteen digits behind a word that says so: other digits are further away.
    _Shape("phone", rf"(?<=[^]0-9\n]{{3}})\(?[0-9]{_MORE}{{6,14}}(?!\w)", _phone_behind_its_word),
)


class NumberFinder:
    """Finds the numbers of some kinds.

    Args:
        kinds: any of `card`, `ssn`, `phone`; others are not looked for here.
    """

    KINDS: tuple[PiiKind, ...] = ("card", "ssn", "phone")

    def __init__(self, kinds: Collection[PiiKind]) -> None:
        self._shapes = [shape for shape in _SHAPES if shape.kind in kinds]
        # At most places no shape fits: one look tells, and which is the first that does, and so for those
        # behind it should that be none after all.
        self._first_of = [_alternatives(self._shapes, number) for number in range(len(self._shapes))]

    def first_from(self, text: str, begin: int) -> Finding | None:
        """The first number that lies in `text[begin:]`."""
        for run in _RUN.finditer(text, begin):
            for start in _START.finditer(text, run.start(), run.end()):
                found = self._at(text, start.start())
                if found is not None:
                    return found
        return None

    def _at(self, text: str, begin: int) -> Finding | None:
        number = 0
        while number < len(self._shapes):
            match = self._first_of[number].match(text, begin)
            if match is None or match.lastgroup is None:
                return None
            number = int(match.lastgroup[1:])
            shape = self._shapes[number]
            end = shape.accept(text, match)
            if end is not None:
                return Finding(shape.kind, begin, end)
            number += 1
        return None

    def open_from(self, text: str, begin: int) -> int:
        """Where something begins that more text may make a number, or a longer one; `len(text)` if
        nowhere."""
        opened = _OPEN.search(text, max(begin, len(text) - _REACH))
        return opened.start() if opened else len(text)


def _alternatives(shapes: Sequence[_Shape], first: int) -> re.Pattern[str]:
    """An expression for any of the shapes from `first` on; the group that matched is `s` and the number."""
    by_kind: dict[PiiKind, list[str]] = {}
    for number in range(first, len(shapes)):
        by_kind.setdefault(shapes[number].kind, []).append(f"(?P<s{number}>{shapes[number].pattern})")
    return re.compile(
        "|".join(f"{_LEFT[kind]}(?:{'|'.join(patterns)})" for kind, patterns in by_kind.items())
    )
