"""E-mail addresses and IBANs in a text.

What does not belong here: numbers without letters (`numbers`), what becomes of a finding (`redaction`).
"""

from __future__ import annotations

import re

from llmscope.gateway.guards.checksums import IBAN_LENGTHS, is_iban
from llmscope.gateway.guards.findings import Finding

# RFC 5321, 4.5.3.1: at most 64 characters before the @ and 255 behind it.
_LOCAL_CHARACTERS, _DOMAIN_CHARACTERS = 64, 255
_LOCAL = re.compile(rf"[\w.%+'-]{{1,{_LOCAL_CHARACTERS}}}")
_DOMAIN = re.compile(rf"[\w.-]{{1,{_DOMAIN_CHARACTERS}}}")
# What may stand inside the part before the @ but not begin it.
_NOT_FIRST = ".%+'-"
_TOP_LEVEL = re.compile(r"[^\W\d_]{2,24}|xn--[a-z0-9-]{2,20}", re.IGNORECASE)
# Pictures for dense screens are called `icon@2x.png`. None of these is a top-level domain.
_FILE_ENDINGS = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "json", "html"})


# `git@host:path` is how repositories are addressed.
_NOBODY = frozenset({"git"})


class EmailFinder:
    """E-mail addresses: a part before the @, and a domain of two labels or more behind it."""

    def first_from(self, text: str, begin: int) -> Finding | None:
        """The first address that lies in `text[begin:]`."""
        at = text.find("@", begin)
        while at >= 0:
            domain = _DOMAIN.match(text, at + 1)
            length = _domain_length(domain[0]) if domain else 0
            if length:
                start = _local_start(text, begin, at)
                if start < at and text[start:at] not in _NOBODY:
                    return Finding("email", start, at + 1 + length)
            at = text.find("@", at + 1)
        return None

    def open_from(self, text: str, begin: int) -> int:
        """Where something begins that more text may make an address, or a longer one; `len(text)` if
        nowhere."""
        end = len(text)
        opened = _local_start(text, begin, end, may_begin_with_any=True)
        at = text.rfind("@", max(begin, end - _DOMAIN_CHARACTERS), end)
        if at >= 0:
            domain = _DOMAIN.match(text, at + 1)
            if at + 1 == end or (domain and domain.end() == end):
                opened = min(opened, _local_start(text, begin, at, may_begin_with_any=True))
        return opened


def _local_start(text: str, begin: int, at: int, *, may_begin_with_any: bool = False) -> int:
    """Where the part before an @ at `at` begins; `at` if there is none."""
    backwards = text[max(begin, at - _LOCAL_CHARACTERS) : at][::-1]
    local = _LOCAL.match(backwards)
    if local is None:
        return at
    length = len(local[0]) if may_begin_with_any else len(local[0].rstrip(_NOT_FIRST))
    return at - length


def _domain_length(run: str) -> int:
    """How much of `run` is a domain with a top level that can be one; 0 for none."""
    labels = run.split("..", 1)[0].split(".")
    while len(labels) > 1:
        last = labels[-1].rstrip("-_")
        if labels[0] and _TOP_LEVEL.fullmatch(last) and last.lower() not in _FILE_ENDINGS:
            return len(".".join(labels[:-1])) + 1 + len(last)
        labels.pop()
    return 0


# Country, check digits and the characters behind, which people write in groups.
_IBAN_BEGIN = re.compile(r"[0-9]{2}(?<=(?<![^\W_])[A-Za-z]{2}[0-9]{2})")
_IBAN_OF_LENGTH = {
    length: re.compile(rf"[A-Za-z]{{2}}[0-9]{{2}}(?:[ .\-\u00a0]?[A-Za-z0-9]){{{length - 4}}}(?![A-Za-z0-9])")
    for length in set(IBAN_LENGTHS.values())
}
_IBAN_OPEN = re.compile(
    r"(?<![^\W_])[A-Za-z](?:[A-Za-z](?:[0-9](?:[0-9](?:[ .\-\u00a0]?[A-Za-z0-9]){0,29}[ .\-\u00a0]?)?)?)?\Z"
)
# 33 characters (the longest IBAN) with a separator before each of the 29 behind the check digits, and the
# one character that may not follow.
_IBAN_REACH = 33 + 29 + 1


class IbanFinder:
    """IBANs, in one piece or in groups, in either case: length by country, and the checksum."""

    def first_from(self, text: str, begin: int) -> Finding | None:
        """The first IBAN that lies in `text[begin:]`."""
        at = begin + 2
        while (check_digits := _IBAN_BEGIN.search(text, at)) is not None:
            start = check_digits.start() - 2
            length = IBAN_LENGTHS.get(text[start : start + 2].upper())
            if length is not None:
                candidate = _IBAN_OF_LENGTH[length].match(text, start)
                if candidate and is_iban(re.sub(r"[^A-Za-z0-9]", "", candidate[0])):
                    return Finding("iban", start, candidate.end())
            at = check_digits.start() + 1
        return None

    def open_from(self, text: str, begin: int) -> int:
        """Where something begins that more text may make an IBAN; `len(text)` if nowhere."""
        opened = _IBAN_OPEN.search(text, max(begin, len(text) - _IBAN_REACH))
        return opened.start() if opened else len(text)
