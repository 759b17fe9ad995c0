"""Where a process keeps answers: bounded by time, number and bytes; the least recently used leaves first.

What does not belong here: who buys an answer that is not there (`exact`), what a key is (`keys`).
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from llmscope.gateway.stages import CachedAnswer

# What an entry takes besides its texts: key, answer, dictionary slots (CPython 3.11, measured with
# tracemalloc over 10,000 entries: 480 to 560 bytes).
_ENTRY_BYTES = 560


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer and the instant at which it is too old, on the clock of the calls."""

    answer: CachedAnswer
    expires_at_seconds: float
    size_bytes: int


class AnswerMemory:
    """Answers by key. May be used from several threads.

    Args:
        max_entries, max_bytes: the bounds; an answer that alone is larger is not kept.
        forget: told the key of each answer that leaves before it is asked for again.
    """

    def __init__(self, max_entries: int, max_bytes: int, forget: Callable[[str], object]) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._forget = forget
        self._kept: OrderedDict[str, KeptAnswer] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str, now_seconds: float) -> KeptAnswer | None:
        """The answer under `key`, if it is not too old."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if now_seconds < kept.expires_at_seconds:
                self._kept.move_to_end(key)
                return kept
            self._drop(key)
        self._forget(key)
        return None

    def put(
        self, key: str, answer: CachedAnswer, expires_at_seconds: float, *, beside_bytes: int = 0
    ) -> bool:
        """Keep `answer`, at the cost of the least recently used ones. Returns whether it is kept.

        Args:
            beside_bytes: what is kept elsewhere for as long as the answer is, and counts as its own.
        """
        size_bytes = sys.getsizeof(answer.text) + _ENTRY_BYTES + beside_bytes
        if size_bytes > self._max_bytes:
            return False
        dropped = []
        with self._lock:
            if key in self._kept:
                self._drop(key)
            self._kept[key] = KeptAnswer(answer, expires_at_seconds, size_bytes)
            self._bytes += size_bytes
            while len(self._kept) > self._max_entries or self._bytes > self._max_bytes:
                oldest = next(iter(self._kept))
                self._drop(oldest)
                dropped.append(oldest)
        for oldest in dropped:
            self._forget(oldest)
        return True

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            keys = list(self._kept)
            self._kept.clear()
            self._bytes = 0
        for key in keys:
            self._forget(key)

    def size(self) -> tuple[int, int]:
        """How many answers are kept, and how many bytes they take."""
        with self._lock:
            return len(self._kept), self._bytes

    def _drop(self, key: str) -> None:
        self._bytes -= self._kept.pop(key).size_bytes
