"""The request ids met last, so that a bill that is read twice counts once.

What does not belong here: what an id being known means (`ledger`).
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from bisect import bisect_left
from collections import deque

from policy_runtime.breaks import Breaks

# Repeats are recognised among at least this many of the last known bills.
DUPLICATE_HORIZON = 1_000_000
# So many ids from one look at the clock to the next.
_PIECE = 100


class RecentIds:
    """Remembers at least the last `horizon` ids added, at most a quarter more: five generations of a
    quarter each, of which the oldest is dropped whole.

    What was remembered by a process before this one (`restore`) is known by 64-bit digests until as many
    ids have been added: of a million, one new id in 2 × 10^13 is taken for one of them.
    """

    __slots__ = ("_digests", "_generation_size", "_horizon", "_newest", "_older")

    def __init__(self, horizon: int = DUPLICATE_HORIZON) -> None:
        self._horizon = horizon
        self._generation_size = max(1, -(-horizon // 4))
        self._newest: set[str] = set()
        self._older: deque[set[str]] = deque(maxlen=4)
        self._digests: tuple[array[int], ...] = ()

    def __contains__(self, request_id: str) -> bool:
        if request_id in self._newest:
            return True
        for generation in self._older:
            if request_id in generation:
                return True
        if not self._digests:
            return False
        digest = _digest_of(request_id)
        for digests in self._digests:
            at = bisect_left(digests, digest)
            if at < len(digests) and digests[at] == digest:
                return True
        return False

    def add(self, request_id: str) -> None:
        """Remember one id."""
        self._newest.add(request_id)
        if len(self._newest) >= self._generation_size:
            self._older.append(self._newest)
            self._newest = set()
            if len(self._older) == self._older.maxlen:
                self._digests = ()

    def knows_any(self, request_ids: set[str]) -> bool:
        """Whether any of the ids is remembered."""
        if self._digests:
            return any(request_id in self for request_id in request_ids)
        return not all(ids.isdisjoint(request_ids) for ids in (self._newest, *self._older))

    def add_all(self, request_ids: set[str]) -> None:
        """Remember many ids that are not."""
        if len(self._newest) + len(request_ids) < self._generation_size:
            self._newest |= request_ids
        else:
            for request_id in request_ids:
                self.add(request_id)

    def copy(self) -> RecentIds:
        """The ids as they are now, whatever is added next."""
        copied = RecentIds(self._horizon)
        copied._newest = set(self._newest)
        copied._older.extend(self._older)  # to which nothing is added any more
        copied._digests = self._digests
        return copied

    def digests(self) -> list[bytes]:
        """What `restore` takes: sorted digests of eight bytes, the earlier ones and the later ones apart.

        It takes about a microsecond for each id added, with breaks in between.
        """
        earlier, later = self._digests if self._digests else (array("Q"), array("Q"))
        breaks = Breaks()
        added: list[int] = []
        for ids in (*self._older, self._newest):
            for request_id in ids:
                added.append(_digest_of(request_id))
                if not len(added) % _PIECE:
                    breaks.take()
        later = array("Q", sorted([*later, *added]))
        if len(later) >= self._horizon:
            earlier, later = later, array("Q")
        return [_little_endian(digests).tobytes() for digests in (earlier, later)]

    def restore(self, digests: list[bytes]) -> None:
        """Know the ids that another process knew.

        Raises:
            ValueError: these are no digests.
        """
        restored = []
        for stored in digests:
            values = array("Q")
            values.frombytes(stored)
            restored.append(_little_endian(values))
        self._digests = tuple(restored) if any(restored) else ()


def _digest_of(request_id: str) -> int:
    digest = hashlib.blake2b(request_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return values
    swapped = array("Q", values)
    swapped.byteswap()
    return swapped
