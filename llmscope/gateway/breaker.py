"""A circuit breaker for one provider: closed, open, half-open.

It opens after a number of failures in a row, or when too large a share of the attempts within a window
of time failed (and there were enough of them to tell). After a cooldown one attempt at a time is let
through; its success closes the circuit, its failure opens it for another cooldown.

Written here because no library holds the claim that matters: of fifty callers at the end of the
cooldown, one probes. What does not belong here: which errors speak against a provider (`attempts`).
"""

from __future__ import annotations

import threading
from collections import deque

from llmscope.envelope import CircuitState
from llmscope.errors import ConfigurationError

# Seed 003: five failures in a row or more than half of the attempts; a probe after thirty seconds.
CONSECUTIVE_FAILURES = 5
ERROR_RATE = 0.5
WINDOW_SECONDS = 60.0
MINIMUM_ATTEMPTS = 20
COOLDOWN_SECONDS = 30.0


class ProviderBreaker:
    """See the module. Safe to share between threads and event loops.

    Args:
        consecutive_failures: so many failures in a row open it.
        error_rate: a larger share of failures than this within the window opens it.
        window_seconds: how far back attempts count for the error rate.
        minimum_attempts: with fewer attempts in the window the error rate says nothing.
        cooldown_seconds: how long it stays open before a probe.

    Raises:
        ConfigurationError: a value with which it could never open or never close.
    """

    def __init__(
        self,
        *,
        consecutive_failures: int = CONSECUTIVE_FAILURES,
        error_rate: float = ERROR_RATE,
        window_seconds: float = WINDOW_SECONDS,
        minimum_attempts: int = MINIMUM_ATTEMPTS,
        cooldown_seconds: float = COOLDOWN_SECONDS,
    ) -> None:
        if consecutive_failures < 1 or minimum_attempts < 1:
            raise ConfigurationError("breaker: consecutive_failures and minimum_attempts must be at least 1")
        if not 0 < error_rate < 1:
            raise ConfigurationError(f"breaker: error_rate is {error_rate}; it must lie between 0 and 1")
        if window_seconds <= 0 or cooldown_seconds <= 0:
            raise ConfigurationError("breaker: window_seconds and cooldown_seconds must be positive")
        self._consecutive_failures = consecutive_failures
        self._error_rate = error_rate
        self._window_seconds = window_seconds
        self._minimum_attempts = minimum_attempts
        self._cooldown_seconds = cooldown_seconds
        self._mutex = threading.Lock()
        # Results of permits given before the last change of state tell of a time that is over.
        self._era = 0
        self._opened_at: float | None = None
        self._is_probing = False
        self._failures_in_a_row = 0
        self._ended: deque[tuple[float, bool]] = deque()
        self._failures_in_window = 0

    def admit(self, now_seconds: float) -> BreakerPermit | None:
        """Leave for one attempt; None while open, and while another caller probes."""
        with self._mutex:
            if self._opened_at is not None:
                if self._is_probing or now_seconds - self._opened_at < self._cooldown_seconds:
                    return None
                self._is_probing = True
            return BreakerPermit(self, self._era)

    def state(self, now_seconds: float) -> CircuitState:
        """`half_open` from the end of the cooldown until the probe's result is known."""
        opened_at = self._opened_at
        if opened_at is None:
            return CircuitState.CLOSED
        if self._is_probing or now_seconds - opened_at >= self._cooldown_seconds:
            return CircuitState.HALF_OPEN
        return CircuitState.OPEN

    def note(self, era: int, is_success: bool | None, now_seconds: float) -> None:
        """Take a permit's result; None says nothing about the provider."""
        with self._mutex:
            if era != self._era:
                return
            if self._opened_at is not None:
                self._is_probing = False
                if is_success is not None:
                    self._turn(None if is_success else now_seconds)
            elif is_success is not None:
                self._count(is_success, now_seconds)

    def _count(self, is_success: bool, now_seconds: float) -> None:
        self._failures_in_a_row = 0 if is_success else self._failures_in_a_row + 1
        self._ended.append((now_seconds, is_success))
        self._failures_in_window += not is_success
        while self._ended[0][0] <= now_seconds - self._window_seconds:
            self._failures_in_window -= not self._ended.popleft()[1]
        attempts = len(self._ended)
        too_many = (
            attempts >= self._minimum_attempts and self._failures_in_window > self._error_rate * attempts
        )
        if too_many or self._failures_in_a_row >= self._consecutive_failures:
            self._turn(now_seconds)

    def _turn(self, opened_at: float | None) -> None:
        self._era += 1
        self._opened_at = opened_at
        self._is_probing = False
        self._failures_in_a_row = self._failures_in_window = 0
        self._ended.clear()


class BreakerPermit:
    """Leave to make one attempt; see `stages.Permit`."""

    __slots__ = ("_breaker", "_era")

    def __init__(self, breaker: ProviderBreaker, era: int) -> None:
        self._breaker = breaker
        self._era = era

    def succeed(self, now_seconds: float) -> None:
        """The provider answered."""
        self._breaker.note(self._era, True, now_seconds)

    def fail(self, now_seconds: float) -> None:
        """The attempt failed in a way that speaks against the provider."""
        self._breaker.note(self._era, False, now_seconds)

    def abandon(self, now_seconds: float) -> None:
        """The attempt told nothing; a probe makes room for the next one."""
        self._breaker.note(self._era, None, now_seconds)


class Breakers:
    """A breaker per provider, made when first asked for. The state of a provider is one for all routes."""

    def __init__(self, **settings: float) -> None:
        ProviderBreaker(**settings)  # type: ignore[arg-type]  # refuse bad settings here, not at the first call
        self._settings = settings
        self._of: dict[str, ProviderBreaker] = {}

    def __call__(self, provider: str) -> ProviderBreaker:
        """The breaker of `provider`."""
        breaker = self._of.get(provider)
        if breaker is None:
            breaker = self._of.setdefault(provider, ProviderBreaker(**self._settings))  # type: ignore[arg-type]
        return breaker
