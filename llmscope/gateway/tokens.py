"""Estimating how many tokens a text is, before anybody has counted them.

The gate reserves money by this number: it must be fast, accept any text, and err high rather than low.
What does not belong here: exact tokenisers (75 MB, or ranks fetched from a server at first use).
"""

from __future__ import annotations

import math
import re
import zlib

# What a byte-pair tokeniser first cuts a text into, roughly. The alternatives, in order: words (camel case
# is cut), digits, runs of blanks or a line end with its indentation, one blank (it belongs to the word
# behind it and costs nothing), scripts written without blanks, other letters, signs, the rest.
_PIECES = re.compile(
    r"([A-Z]?[a-z]+|[A-Z]+)"
    r"|([0-9]+)"
    r"|([^\S\n]{2,}|\s*\n\s*)"
    r"|\s"
    r"|([\u0e00-\u0eff\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufeff\U00020000-\U0003ffff]+)"
    r"|([^\W\d_]+)"
    r"|([^\w\s]+|_+)"
    r"|(.)",
    re.DOTALL,
)


# Each byte's class: a lower case, A upper case, 0 digit, . sign, blank, line end, x beyond ASCII.
_CLASS_OF_BYTE = bytes(
    ord(
        "x" if code >= 128
        else "a" if chr(code).islower()
        else "A" if chr(code).isupper()
        else "0" if chr(code).isdigit()
        else "\n" if code == 10
        else " " if chr(code).isspace()
        else "."
    )
    for code in range(256)
)  # fmt: skip
_ONE_IF_LOWER = bytes(symbol == ord("a") for symbol in _CLASS_OF_BYTE)
# Below this many characters the piecewise estimate is as fast and less noisy.
_SHORT_CHARACTERS = 200
# Of longer texts this many slices of this many characters are looked at, evenly spread.
_SLICES, _SLICE_CHARACTERS = 32, 1024


def estimate_tokens(text: str) -> int:
    """How many tokens `text` is likely to be, at least 1.

    Ordinary prose, code and JSON are estimated from counts of byte classes (about 4 µs for 1,000
    characters), anything odd (random letters, shouting, scripts beyond ASCII) piece by piece, and texts
    over 32,768 characters from evenly spread slices. What it errs by, measured against a real
    tokeniser, stands in docs/estimates.md.
    """
    length = len(text)
    if length <= _SLICES * _SLICE_CHARACTERS:
        return math.ceil(_estimate(text)) or 1
    step = (length - _SLICE_CHARACTERS) / (_SLICES - 1)
    starts = (round(index * step) for index in range(_SLICES))
    seen = sum(_estimate(text[start : start + _SLICE_CHARACTERS]) for start in starts)
    return math.ceil(seen * length / (_SLICES * _SLICE_CHARACTERS))


def _estimate(text: str) -> float:
    if len(text) > _SHORT_CHARACTERS:
        tokens = _from_byte_classes(text)
        if tokens is not None:
            return tokens
    return _from_pieces(text)


def _from_byte_classes(text: str) -> float | None:
    """A linear estimate from how often each class of byte, and some pairs, occur; None for a text
    unlike those it was fitted on.

    The weights are a least-squares fit of relative errors against the o200k ranks (bpe-openai 0.1.4,
    2026-11-21) over 800 slices of English prose, Python and JSON.
    """
    data = text.encode("utf-8", "replace")
    classes = data.translate(_CLASS_OF_BYTE)
    count = classes.count
    # Counting what stands in runs costs a mispredicted branch at each end of a run; the low half of Adler-32
    # (RFC 1950) is one more than the sum of the bytes, below 65,521, and has no branches.
    lower = (zlib.adler32(data.translate(_ONE_IF_LOWER)) & 0xFFFF) - 1
    upper, digits, signs = count(b"A"), count(b"0"), count(b".")
    beyond, words, letters = 0 if text.isascii() else count(b"x"), count(b" a"), lower + upper
    digit_pairs = count(b"00") if digits > 1 else 0
    if (
        beyond * 50 > len(classes)
        or upper * 4 > letters
        or signs * 3 > len(classes)
        or letters > 12 * (words + signs)
    ):
        return None
    return (
        0.104 * lower
        + 0.202 * upper
        + 2.446 * digits
        - 4.26 * digit_pairs
        + 0.891 * signs
        - 0.942 * count(b"..")
        + 1.644 * count(b"\n")
        + 0.522 * words
        + 0.4 * beyond
    )


def _from_pieces(text: str) -> float:
    """An estimate from the pieces that a byte-pair tokeniser would first cut the text into.

    The weights were fitted by hand against the o200k ranks. About 70 µs for 1,000 characters.
    """
    tokens = 0.0
    for word, digits, blanks, dense, letters, signs, other in _PIECES.findall(text):
        if word:
            length = len(word)
            if length <= 6:
                tokens += 1
            elif length <= 16:
                tokens += 1.1 + (length - 7) * 0.06
            else:  # not a word of any language: random letters take one token for 1.9 of them
                tokens += length / 1.9
        elif signs:
            length = len(signs)
            if not signs.isascii():
                tokens += 1.4 * length
            else:
                tokens += 1 if length <= 2 else 1 + (length - 2) / 4
        elif digits:
            tokens += (len(digits) + 2) // 3
        elif blanks or other:
            tokens += 1
        elif dense:
            tokens += 0.8 * len(dense)
        elif letters:
            tokens += 0.3 * len(letters)
    return tokens
