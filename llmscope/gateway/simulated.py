"""A provider that answers offline: deterministic, with the latency and the failures it is told to have.

For replays, load tests and demonstrations. What does not belong here: traffic (who asks what, when).
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import AsyncIterator, Callable

from llmscope.clock import Clock
from llmscope.errors import ConfigurationError
from llmscope.gateway.provider import ProviderBase, ProviderResponse, StreamItem
from llmscope.gateway.tokens import estimate_tokens

TokenPlan = Callable[[str, str, int], tuple[int, int]]
"""`plan(prompt, model, max_output_tokens) -> (tokens_in, tokens_out)`."""

# The 95th percentile of the standard normal distribution.
Z_95 = 1.6448536269514722
# p95 / mean of a lognormal is exp(σ(z − σ/2)), which is largest, exp(z²/2) = 3.87, at σ = z.
LARGEST_P95_TO_MEAN = math.exp(Z_95**2 / 2)
_BISECTION_STEPS = 60


class SimulatedProviderError(RuntimeError):
    """The failure that `error_rate` asks for. Nothing was computed, so nothing is billed."""


def lognormal_parameters(mean: float, p95: float) -> tuple[float, float]:
    """μ and σ of the lognormal distribution with this mean and this 95th percentile.

    A p95 below the mean is raised to it (σ is then 0).

    Raises:
        ConfigurationError: no lognormal has them: the mean is not above 0, or p95/mean exceeds 3.87.
    """
    ratio = max(p95, mean) / mean if mean > 0 else math.inf
    if ratio > LARGEST_P95_TO_MEAN:
        raise ConfigurationError(
            f"no lognormal distribution has a mean of {mean} and a 95th percentile of {p95}: "
            f"give a mean above 0 and at most {LARGEST_P95_TO_MEAN:.2f} times it"
        )
    low, high = 0.0, Z_95
    for _ in range(_BISECTION_STEPS):
        sigma = (low + high) / 2
        if sigma * (Z_95 - sigma / 2) < math.log(ratio):
            low = sigma
        else:
            high = sigma
    sigma = 0.0 if ratio == 1.0 else (low + high) / 2
    return math.log(mean) - sigma**2 / 2, sigma


class SimulatedProvider(ProviderBase):
    """Answers after a lognormal latency, failing at a given rate.

    What happens to a call depends on the seed and on how many calls have been started at this provider
    before it, not on how the running ones interleave.

    Args:
        seed: of all randomness.
        clock: on which the latency is slept; no real time passes on a `VirtualClock`.
        mean_latency_ms: mean latency. May be changed while running; p95 keeps its ratio to it.
        p95_latency_ms: 95th percentile of the latency, at most 3.87 times the mean.
        error_rate: share of calls that fail (retryable, unbilled). May be changed while running.
        plan: the token counts of each call; without it the prompt's estimate, and a number up to
            `max_output_tokens` that the prompt determines.
        name: the provider's name in events.
        first_token_share: when the first piece of a stream comes, as a share of the whole latency; the
            others follow evenly. May be changed while running.

    Raises:
        ConfigurationError: no lognormal has such a mean and 95th percentile, or a share that is none.
    """

    def __init__(
        self,
        seed: int,
        clock: Clock,
        mean_latency_ms: float,
        p95_latency_ms: float,
        error_rate: float,
        plan: TokenPlan | None = None,
        *,
        name: str = "simulated",
        first_token_share: float = 0.25,
    ) -> None:
        if not 0 <= first_token_share <= 1:
            raise ConfigurationError(f"first_token_share is {first_token_share}; it must lie between 0 and 1")
        self.first_token_share = first_token_share
        self.mean_latency_ms = mean_latency_ms
        self.error_rate = error_rate
        mu, self._sigma = lognormal_parameters(mean_latency_ms, p95_latency_ms)
        self._median_to_mean = math.exp(mu) / mean_latency_ms
        self._p95_to_mean = max(1.0, p95_latency_ms / mean_latency_ms)
        self._seed = seed
        self._clock = clock
        self._plan = plan
        self._name = name
        self._calls = 0

    @property
    def provider_name(self) -> str:
        return self._name

    async def complete(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        """Wait, then answer or fail.

        Raises:
            SimulatedProviderError: at `error_rate`.
        """
        latency_seconds, fails = self._fate()
        await self._clock.sleep(latency_seconds)
        if fails:
            raise SimulatedProviderError(f"simulated failure of {self._name}")
        return self._answer(prompt, model, max_output_tokens)

    async def stream(self, prompt: str, model: str, max_output_tokens: int) -> AsyncIterator[StreamItem]:
        """The answer of `complete` word by word, within the same latency; a failure comes before the
        first word, when the whole answer would have come.

        Raises:
            SimulatedProviderError: at `error_rate`.
        """
        latency_seconds, fails = self._fate()
        if fails:
            await self._clock.sleep(latency_seconds)
            raise SimulatedProviderError(f"simulated failure of {self._name}")
        answer = self._answer(prompt, model, max_output_tokens)
        first, *others = answer.text.split(" ")
        first_token_seconds = latency_seconds * self.first_token_share
        await self._clock.sleep(first_token_seconds)
        yield first
        for word in others:
            await self._clock.sleep((latency_seconds - first_token_seconds) / len(others))
            yield f" {word}"
        yield answer

    def _fate(self) -> tuple[float, bool]:
        """Latency in seconds of the call that begins now, and whether it fails."""
        self._calls += 1
        draw = random.Random(f"{self._seed}:{self._name}:{self._calls}")
        latency_ms = self._latency_ms(draw.gauss(0.0, 1.0))
        return latency_ms / 1000, draw.random() < self.error_rate

    def _answer(self, prompt: str, model: str, max_output_tokens: int) -> ProviderResponse:
        plan = self._plan or self._default_plan
        tokens_in, tokens_out = plan(prompt, model, max_output_tokens)
        return ProviderResponse(
            text=f"simulated answer of {tokens_out} tokens",
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            finish_reason="length" if tokens_out >= max_output_tokens else "stop",
        )

    def is_retryable(self, error: Exception) -> bool:
        """Its own failures are."""
        return isinstance(error, SimulatedProviderError)

    def categorize_error(self, error: Exception) -> str:
        """Its own failures are `transient_error`."""
        return "transient_error" if isinstance(error, SimulatedProviderError) else "unknown"

    def is_unbilled(self, error: Exception) -> bool:
        """Its own failures are."""
        return isinstance(error, SimulatedProviderError)

    def _latency_ms(self, normal: float) -> float:
        latency = self.mean_latency_ms * self._median_to_mean * math.exp(self._sigma * normal)
        return min(latency, 3 * self._p95_to_mean * self.mean_latency_ms)

    def _default_plan(self, prompt: str, model: str, max_output_tokens: int) -> tuple[int, int]:
        digest = hashlib.sha256(f"{self._seed}:{model}:{prompt}".encode("utf-8", "replace")).digest()
        return estimate_tokens(prompt), 1 + int.from_bytes(digest[:8], "big") % max(1, max_output_tokens)
