"""Saying once what happens at every call.

What does not belong here: what is said (each part of the cache).
"""

from __future__ import annotations

import logging
import math

WARNING_INTERVAL_SECONDS = 60.0


class SparseWarning:
    """Lets one warning through per interval of the calls' own clock, and counts what it kept back."""

    def __init__(self, log: logging.Logger, interval_seconds: float = WARNING_INTERVAL_SECONDS) -> None:
        self._log = log
        self._interval_seconds = interval_seconds
        self._quiet_until_seconds = -math.inf
        self._kept_back = 0

    def say(self, now_seconds: float, message: str, *values: object) -> None:
        """Log `message` with its values, unless that was done less than an interval ago."""
        if now_seconds < self._quiet_until_seconds:
            self._kept_back += 1
            return
        self._quiet_until_seconds = now_seconds + self._interval_seconds
        if self._kept_back:
            message += f" ({self._kept_back} more since the last warning)"
        self._kept_back = 0
        self._log.warning(message, *values)
