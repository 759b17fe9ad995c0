"""Cheap first, and dearer only when a judge says that the answer will not do.

What does not belong here: asking one target after the other and adding up what they cost (the pipeline).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable

from llmscope.errors import ConfigurationError
from llmscope.gateway.routing.cheapest import CheapestRouter

QualityEstimator = Callable[[str, str], float | Awaitable[float]]
"""`estimator(prompt, answer)`: how good the answer is, higher is better; plain or `async`. A plain one
holds up the event loop for as long as it thinks."""

DEFAULT_QUALITY_THRESHOLD = 0.7


class CascadeRouter(CheapestRouter):
    """Orders the candidates as `CheapestRouter` does; what follows the first are the steps up, taken when
    the route's escalation (`QualityEscalation`) finds an answer wanting, and the fallbacks when a step
    fails."""

    decision = "cascade"


class QualityEscalation:
    """Keeps an answer whose estimated quality reaches a threshold.

    Args:
        estimator: the caller's own judge. What it raises ends the call.
        threshold: the least quality that will do, in the estimator's own measure.

    Raises:
        ConfigurationError: the threshold is no finite number, or the estimator cannot be called.
    """

    def __init__(self, estimator: QualityEstimator, threshold: float = DEFAULT_QUALITY_THRESHOLD) -> None:
        if not callable(estimator):
            raise ConfigurationError(f"cascade: the quality estimator {estimator!r} cannot be called")
        if not math.isfinite(threshold):
            raise ConfigurationError(f"cascade: the threshold is {threshold}; give a finite number")
        self._estimator = estimator
        self._threshold = threshold

    async def is_good_enough(self, prompt: str, answer: str) -> bool:
        """Whether the answer's estimated quality is at least the threshold.

        Raises:
            ConfigurationError: the estimator gave something that is no number.
            Exception: whatever the estimator raises.
        """
        estimate = self._estimator(prompt, answer)
        quality = await estimate if inspect.isawaitable(estimate) else estimate
        if not isinstance(quality, (int, float)) or math.isnan(quality):
            # Its value may be the answer itself, which no message quotes.
            raise ConfigurationError(
                f"cascade: the quality estimator gave a {type(quality).__name__} that is no number"
            )
        return quality >= self._threshold
