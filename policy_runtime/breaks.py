"""Breaks in work that nobody waits for, so that the threads that decide go on meanwhile."""

from __future__ import annotations

import threading
import time

# A thread that wants the interpreter waits for it about as long as this, and in one case of five at most.
_WORK_SECONDS = 0.001
_PAUSE_SECONDS = 0.004


class Breaks:
    """Of one piece of work, which calls `take` every few microseconds."""

    def __init__(self) -> None:
        self._worked_since = time.perf_counter()

    def take(self) -> None:
        """Leave the interpreter to others for four milliseconds, if one has passed since the last time, and
        unless the program has ended and waits for this work."""
        if time.perf_counter() - self._worked_since >= _WORK_SECONDS and threading.main_thread().is_alive():
            time.sleep(_PAUSE_SECONDS)
            self._worked_since = time.perf_counter()
