"""Counts in sentences.

What does not belong here: what the sentences say.
"""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """`1 row`, `2 rows`, `1,204 rows`; with `many` also where a verb goes with it (`1 cell differs`).

    Args:
        count: how many there are.
        one: what follows the number 1.
        many: what follows any other number, by default `one` with an s.
    """
    return f"1 {one}" if count == 1 else f"{count:,} {many or one + 's'}"
