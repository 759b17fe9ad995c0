"""Estimating how many tokens a text is, before anybody has counted them.

The gate reserves money by this number: it must be fast, accept any text, and err high rather than low.
What does not belong here: exact tokenisers (75 MB, or ranks fetched from a server at first use).
"""

from __future__ import annotations

import math
import re
from binascii import unhexlify
from zlib import adler32

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


# What a byte-pair tokeniser tells apart, roughly: each byte has the number of its class here, as a hex digit;
# bytes beyond ASCII have f and all others 0.
_CLASSES = (
    "", "aeiou", "bcdfghjklmnpqrstvwxyz", ",;", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789", " ", "\n\r\t",
    "=*#~", ".:", "'\"`", "()[]{}<>", "_", "-/\\", "+!@$%^&|?",
)  # fmt: skip
_CLASS_OF_BYTE = bytes(
    b"0123456789abcdef"[
        15 if code >= 128 else next((n for n, those in enumerate(_CLASSES) if chr(code) in those), 0)
    ]
    for code in range(256)
)
# In 1/32 of a token: what a byte is likely to cost (row: its class), by what follows it (column).
_PARTS = 32
_WEIGHT_OF_PAIR = bytes(
    (
        10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
        15,  0,  0, 10, 14, 35, 19, 34, 36,  2, 25, 18, 25, 36, 39, 47,
        21,  0,  1, 41, 30, 22, 22, 28, 10,  5,  7, 16, 30, 23, 47, 36,
         4,  0,  0, 42,  0, 16,  3,  0, 10, 12,  0, 24,  5,  2,  5, 10,
         0,  5, 30,  0,  3, 47, 21, 47, 23, 47, 43, 41, 39, 47, 47, 16,
        19, 24, 46, 47, 47,  9, 16, 41, 13, 22, 37, 42, 14,  5, 32, 10,
        17, 12, 15, 34, 10, 47,  1, 12, 15,  0, 17, 13, 32, 14,  1,  0,
         0, 24, 25, 14, 28,  3, 29, 18, 17, 38, 17, 39,  0,  2, 43,  2,
        22, 16, 36, 33,  7, 17, 25,  0,  5, 10,  4,  8,  0, 12, 34, 10,
        35, 40, 39, 47, 47, 33, 45,  0, 25,  0, 22, 45, 46, 23, 26, 10,
        11, 17, 30, 47,  0,  0, 47, 23,  6,  0,  3, 32, 29,  7,  0, 29,
         3, 31, 44, 10,  1, 21, 14,  7, 25,  4,  7,  2, 29, 32, 28,  9,
        10, 23, 16,  0,  0, 47,  2, 18,  8,  1, 15,  9,  8, 13, 11, 11,
         6, 16, 27, 12, 47, 38, 37,  8,  8, 16,  0,  8,  4,  0, 15,  5,
         9, 31, 47, 10, 47, 32, 28,  5,  4,  6, 17,  0,  5, 30,  0, 10,
         8, 11, 47,  2,  9, 10,  0, 16, 10,  0, 28, 12, 11,  5, 10,  5,
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
_MOST_CHARACTERS_AT_ONCE = _SLICES * _SLICE_CHARACTERS


def estimate_tokens(text: str) -> int:
    """How many tokens `text` is likely to be, at least 1.

    Texts in ASCII, or nearly so, are estimated from which kind of byte follows which (about 3 µs for
    1,000 characters); short ones, random letters and other scripts piece by piece; texts over 32,768
    characters from evenly spread slices. What it errs by, measured against a real tokeniser, stands in
    docs/estimates.md.
    """
    length = len(text)
    if length <= _MOST_CHARACTERS_AT_ONCE:
        return math.ceil(_estimate(text, length)) or 1
    step = (length - _SLICE_CHARACTERS) / (_SLICES - 1)
    starts = (round(index * step) for index in range(_SLICES))
    slices = (text[start : start + _SLICE_CHARACTERS] for start in starts)
    seen = sum(_estimate(piece, _SLICE_CHARACTERS) for piece in slices)
    return math.ceil(seen * length / _MOST_CHARACTERS_AT_ONCE)


def _estimate(text: str, length: int) -> float:
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
    classes = data.translate(_CLASS_OF_BYTE)
    # Each two hex digits are read as one byte: the first with the second, and the second with the third.
    both = classes[:-1] + classes[1:] if len(classes) % 2 else classes + classes[1:-1]
    weights = unhexlify(both).translate(_WEIGHT_OF_PAIR)
    if len(weights) <= _SUMMED_AT_ONCE:
        return ((adler32(weights) & 0xFFFF) - 1) / _PARTS
    pieces = (weights[start : start + _SUMMED_AT_ONCE] for start in range(0, len(weights), _SUMMED_AT_ONCE))
    return sum((adler32(piece) & 0xFFFF) - 1 for piece in pieces) / _PARTS


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
