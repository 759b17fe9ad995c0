"""Instants as our own writer writes them, told at once for many lines: `2026-03-24T10:00:00.500000+00:00`.

DuckDB is given instants in this form only, which both it and Python read without a doubt. What does not
belong here: reading any other form (`llmscope.timestamps`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Each text and the newline between it and the next. `9` and below stand for a digit up to that one, but for
# the first two, which make the century.
_FORM = b"2099-19-39T29:59:59.999999+00:00\n"
_DIGITS = (2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 22, 23, 24, 25)
_FLOOR = np.frombuffer(
    bytes(ord("0") if place in _DIGITS else byte for place, byte in enumerate(_FORM)), np.uint8
)
_RANGE = np.frombuffer(_FORM, np.uint8) - _FLOOR
# Of months 1 to 12; February's 29th is left to the reader of all forms.
_DAYS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31, *(0,) * 7], np.uint8)


def are_all_canonical(texts: Sequence[str]) -> bool:
    """Whether each of the texts is an instant of this century in our writer's form.

    False may be said of some that are (a 29th of February), true of none that is not.
    """
    joined = "\n".join(texts)
    if len(joined) + 1 != len(_FORM) * len(texts) or not joined.isascii():
        return not texts
    # As many newlines as there are texts, each in its place: so no text holds one, and each fills its row.
    place = np.frombuffer(f"{joined}\n".encode(), np.uint8).reshape(len(texts), len(_FORM)) - _FLOOR
    if not (place <= _RANGE).all():
        return False
    month = place[:, 5] * 10 + place[:, 6]
    day = place[:, 8] * 10 + place[:, 9]
    hour = place[:, 11] * 10 + place[:, 12]
    return bool(((day > 0) & (day <= _DAYS[month]) & (hour < 24)).all())
