"""The parts that a call may pass through, as the pipeline sees them.

Each stage is a small `Protocol` with the values it takes and gives. A route has a part for a stage or
has none (`RouteParts`), and none costs nothing. Parts that remember (a cache, a breaker, a router) are
told the time instead of asking for it: `now_seconds` is the call's own monotonic clock, so that a test
moves hours in a millisecond.

What does not belong here: how a part works (its own module), the order of the stages (`pipeline`), how
a file turns parts on (`runtime_file`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from llmscope.envelope import CircuitState

Direction = Literal["in", "out"]
GuardAction = Literal["pass", "warn", "redact", "block"]


@dataclass(frozen=True, slots=True)
class Target:
    """One model at one provider."""

    provider: str
    model: str


# Context -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FittedContext:
    """What is sent instead of a conversation.

    Attributes:
        prompt: the text.
        tokens: its estimated length.
        strategy_applied: `full`, `sliding_window` or `summarized`.
        omitted_turns: how many turns of the history are not in it word for word.
    """

    prompt: str
    tokens: int
    strategy_applied: str
    omitted_turns: int


class ContextBudget(Protocol):
    """Makes a prompt of a conversation, within `max_context_tokens`."""

    @property
    def max_context_tokens(self) -> int:
        """The most estimated tokens that a prompt may have."""

    async def fit(self, history: Sequence[str], message: str) -> FittedContext:
        """The prompt for `message` after `history` (oldest first).

        Raises:
            ContextTooLargeError: not even what the strategy keeps fits.
        """


# Guards ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GuardVerdict:
    """What a guard makes of a text.

    Attributes:
        action: what follows: `pass`, `warn` (noted only), `redact` (`text` differs from the input) or
            `block`.
        text: what goes on.
        classes: what was found, by kind (`email`, `card`, `prompt_injection`, …), sorted, never the
            text found. They become `policy_input_class` for a prompt.
        has_pii: whether any of it is personal data.
    """

    action: GuardAction
    text: str
    classes: tuple[str, ...] = ()
    has_pii: bool = False


class StreamGuard(Protocol):
    """A guard over one answer that arrives in pieces. It holds back what may yet turn out to be part of
    something to redact, and no more."""

    def feed(self, piece: str) -> str:
        """Take the next piece; returns the text that can be let through now."""

    def finish(self) -> str:
        """The rest, at the end of the answer."""

    @property
    def verdict(self) -> GuardVerdict:
        """What was found so far (`text` is everything let through)."""


class Guard(Protocol):
    """Looks at prompts and answers."""

    async def check(self, text: str, direction: Direction) -> GuardVerdict:
        """Judge one whole text."""

    def stream(self) -> StreamGuard | None:
        """A guard for a streamed answer, or None if this guard does nothing on the way out."""


# Cache -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CacheQuery:
    """What makes two calls the same.

    Attributes:
        model: the model asked for (not the one that a router chooses then).
        prompt: what would be sent, after context and guards.
        parameters: everything else that changes the answer, as (name, value) pairs, sorted.
        tenant_id: whose answer it is; a part may be told to share between tenants.
    """

    model: str
    prompt: str
    parameters: tuple[tuple[str, str | int | float], ...]
    tenant_id: str


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer as a cache keeps it.

    Attributes:
        cost_nano: what it cost when it was bought, nano-USD; None when unknown. A hit saves this much.
        is_cacheable: False for an answer that must not be given to anybody else (cut short, blocked,
            failed).
    """

    text: str
    provider: str
    model: str
    tokens_in: int
    tokens_out: int
    finish_reason: str | None
    cost_nano: int | None
    is_cacheable: bool = True


@dataclass(frozen=True, slots=True)
class CacheOutcome:
    """An answer, and whether it was bought or found.

    Attributes:
        strategy: `exact` or `semantic`: the cache that had it, or that would have.
        key_fingerprint: the key, hashed, in hexadecimal: it identifies without telling the prompt.
        key_algorithm: `sha256`.
        confidence: 1.0 for an exact hit, the similarity for a semantic one, None for a miss.
    """

    answer: CachedAnswer
    is_hit: bool
    strategy: str
    key_fingerprint: str
    key_algorithm: str
    confidence: float | None


class ResponseCache(Protocol):
    """Answers that need not be bought twice."""

    async def answer(
        self, query: CacheQuery, buy: Callable[[], Awaitable[CachedAnswer]], now_seconds: float
    ) -> CacheOutcome:
        """The answer to `query`: kept, or bought with `buy`.

        Of any number of concurrent callers with one key one buys and the others wait for it; if it
        fails they get no answer from it, and the next of them buys.

        Raises:
            Exception: whatever `buy` raises, to the caller that bought. A cache that itself fails (its
                server is away) is as if it were empty.
        """


# Routing -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoutingRequest:
    """What a router knows of a call.

    Attributes:
        model: the model asked for; None for the tier's, `auto` for any of the candidates.
        tokens_in: the estimated length of the prompt.
        max_output_tokens: the longest answer allowed.
    """

    request_id: str
    route_name: str
    model_tier: str
    model: str | None
    tokens_in: int
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class RoutingChoice:
    """Where a call goes.

    Attributes:
        targets: the first choice, then its fallbacks in order. Never empty.
        decision: what was chosen, for `routing_decision`: the policy's name, or the arm (`canary`).
        reason: why, in a few words and numbers, for `routing_reason`.
    """

    targets: tuple[Target, ...]
    decision: str
    reason: str


@dataclass(frozen=True, slots=True)
class Observation:
    """How one attempt went.

    Attributes:
        is_success: it answered.
        is_fault: it failed in a way that speaks against the target (a refusal for the caller's own
            fault, such as an invalid request or a cancellation, does not).
        latency_ms: how long it took.
        cost_nano: what it cost, nano-USD; None when unknown.
    """

    target: Target
    is_success: bool
    is_fault: bool
    latency_ms: float
    cost_nano: int | None


class Router(Protocol):
    """Chooses among a route's candidates, and learns from what comes of it."""

    def choose(self, request: RoutingRequest, now_seconds: float) -> RoutingChoice:
        """Where this call goes."""

    def observe(self, observation: Observation, now_seconds: float) -> None:
        """Learn from one attempt."""


class Escalation(Protocol):
    """A cascade's judge: whether a cheaper model's answer will do."""

    async def is_good_enough(self, prompt: str, answer: str) -> bool:
        """Whether to keep `answer`; otherwise the next target is asked. It may be the caller's own code:
        what it raises ends the call like a provider's error, with what was spent on the line."""


# Breaker -----------------------------------------------------------------------------------------------


class Permit(Protocol):
    """Leave to make one attempt. Exactly one of the three is called, once."""

    def succeed(self, now_seconds: float) -> None:
        """It answered."""

    def fail(self, now_seconds: float) -> None:
        """It failed in a way that speaks against the provider."""

    def abandon(self, now_seconds: float) -> None:
        """It ended without telling anything about the provider (cancelled, the caller's fault)."""


class Breaker(Protocol):
    """Stops asking a provider that keeps failing."""

    def admit(self, now_seconds: float) -> Permit | None:
        """Leave for one attempt, or None while the circuit is open."""

    def state(self, now_seconds: float) -> CircuitState:
        """Where it stands."""


# A route's parts ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a failing provider is asked again.

    Attributes:
        attempts: how many more times, after the first; None for as often as the route says.
        first_backoff_seconds: the wait before the first of them; each further wait is twice as long.
        longest_backoff_seconds: no wait is longer; a vendor that asks for more is left for the fallback.
        jitter: the share of a wait that is drawn at random: 0.2 spreads it by up to 20 % either way.
            What a vendor asks for with Retry-After is never shortened.
        deadline_seconds: when the caller has waited this long in all, nothing more is tried; None for
            no limit.
    """

    attempts: int | None = None
    first_backoff_seconds: float = 1.0
    longest_backoff_seconds: float = 60.0
    jitter: float = 0.0
    deadline_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RouteParts:
    """What a route's calls pass through; None for a stage that is off."""

    context: ContextBudget | None = None
    guards: tuple[Guard, ...] = ()
    cache: ResponseCache | None = None
    router: Router | None = None
    escalation: Escalation | None = None
    breaker_of: Callable[[str], Breaker] | None = None
    retry: RetryPolicy | None = None


NO_PARTS = RouteParts()
