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


# What a byte-pair tokeniser tells apart, roughly: each byte has the number of its class here, bytes beyond
# ASCII have 15 and all others 0.
_CLASSES = (
    "", "aeiou", "bcdfghjklmnpqrstvwxyz", ",;", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " ", "\n\r\t",
    "=*#~", ".:", "'\"`", "()[]{}<>", "_", "-/\\", "+!@$%^&|?",
)  # fmt: skip
_CLASS_OF_BYTE = bytes(
    15 if code >= 128 else next((number for number, those in enumerate(_CLASSES) if chr(code) in those), 0)
    for code in range(256)
)
# In 1/32 of a token: what a byte is likely to cost (column: its class), by what follows it (row).
_PARTS = 32
_WEIGHT_OF_PAIR = bytes(
    (
        10, 15, 21,  4,  0, 19, 17,  0, 22, 35, 11,  3, 10,  6,  9,  8,
        10,  0,  0,  0,  5, 24, 12, 24, 16, 40, 17, 31, 23, 16, 31, 11,
        10,  0,  1,  0, 30, 46, 15, 25, 36, 39, 30, 44, 16, 27, 47, 47,
        10, 10, 41, 42,  0, 47, 34, 14, 33, 47, 47, 10,  0, 12, 10,  2,
        10, 14, 30,  0,  3, 47, 10, 28,  7, 47,  0,  1,  0, 47, 47,  9,
        10, 35, 22, 16, 47,  9, 47,  3, 17, 33,  0, 21, 47, 38, 32, 10,
        10, 19, 22,  3, 21, 16,  1, 29, 25, 45, 47, 14,  2, 37, 28,  0,
        10, 34, 28,  0, 47, 41, 12, 18,  0,  0, 23,  7, 18,  8,  5, 16,
        10, 36, 10, 10, 23, 13, 15, 17,  5, 25,  6, 25,  8,  8,  4, 10,
        10,  2,  5, 12, 47, 22,  0, 38, 10,  0,  0,  4,  1, 16,  6,  0,
        10, 25,  7,  0, 43, 37, 17, 17,  4, 22,  3,  7, 15,  0, 17, 28,
        10, 18, 16, 24, 41, 42, 13, 39,  8, 45, 32,  2,  9,  8,  0, 12,
        10, 25, 30,  5, 39, 14, 32,  0,  0, 46, 29, 29,  8,  4,  5, 11,
        10, 36, 23,  2, 47,  5, 14,  2, 12, 23,  7, 32, 13,  0, 30,  5,
        10, 39, 47,  5, 47, 32,  1, 43, 34, 26,  0, 28, 11, 15,  0, 10,
        10, 47, 36, 10, 16, 10,  0,  2, 10, 10, 29,  9, 11,  5, 10,  5,
    )
)  # fmt: skip
# The low half of Adler-32 (RFC 1950) is one more than the sum of the bytes, modulo 65,521: of so many bytes
# it is smaller than that.
_SUMMED_AT_ONCE = 65_519 // max(_WEIGHT_OF_PAIR)
# So few tokens are not in a text of words: they are runs of blanks, or random letters, which cost more.
_MOST_CHARACTERS_PER_TOKEN = 7
# Below this many characters the piecewise estimate is as fast and less noisy.
_SHORT_CHARACTERS = 200
# Of longer texts this many slices of this many characters are looked at, evenly spread.
_SLICES, _SLICE_CHARACTERS = 32, 1024


def estimate_tokens(text: str) -> int:
    """How many tokens `text` is likely to be, at least 1.

    Texts in ASCII, or nearly so, are estimated from which kind of byte follows which (about 3 µs for
    1,000 characters); short ones, random letters and other scripts piece by piece; texts over 32,768
    characters from evenly spread slices. What it errs by, measured against a real tokeniser, stands in
    docs/estimates.md.
    """
    length = len(text)
    if length <= _SLICES * _SLICE_CHARACTERS:
        return math.ceil(_estimate(text)) or 1
    step = (length - _SLICE_CHARACTERS) / (_SLICES - 1)
    starts = (round(index * step) for index in range(_SLICES))
    seen = sum(_estimate(text[start : start + _SLICE_CHARACTERS]) for start in starts)
    return math.ceil(seen * length / (_SLICES * _SLICE_CHARACTERS))


def _estimate(text: str) -> float:
    length = len(text)
    if length > _SHORT_CHARACTERS:
        data = text.encode("utf-8", "replace")
        if (len(data) - length) * 100 <= length:
            tokens = _from_pairs(data)
            if tokens * _MOST_CHARACTERS_PER_TOKEN > length:
                return tokens
    return _from_pieces(text)


def _from_pairs(data: bytes) -> float:
    """A sum over all pairs of neighbouring bytes, weighted by the classes of the two.

    The weights are a least-squares fit of relative errors, with 3 % added, against the o200k ranks
    (bpe-openai 0.1.4, 2026-11-21) over 3,400 slices of English, Markdown, Python, C, JavaScript, SQL, JSON,
    HTML, YAML, CSV, logs, capitals, base64 and random digits. No step of it branches on what
    the text says: counting costs a mispredicted branch at each end of a run.
    """
    classes = int.from_bytes(data.translate(_CLASS_OF_BYTE), "little")
    # Each byte's class beside that of the byte behind it.
    weights = (classes | classes >> 4).to_bytes(len(data), "little").translate(_WEIGHT_OF_PAIR)
    parts = 0
    for start in range(0, len(weights), _SUMMED_AT_ONCE):
        parts += (zlib.adler32(weights[start : start + _SUMMED_AT_ONCE]) & 0xFFFF) - 1
    return parts / _PARTS


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
