"""What `evaluate` gives back: a judgement as a value that nobody acted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmscope.money import from_nano
from policy_runtime.records import usd_or_none

if TYPE_CHECKING:
    from policy_runtime.judgement import Judgement


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate would decide, without deciding it.

    Money is in USD; `None` where no price is known.
    """

    decision: str
    reason: str | None
    effective_model_tier: str
    policy_id: str | None
    primitive: str | None
    model: str | None
    estimated_cost_usd: float | None
    reserved_cost_usd: float
    window_cost_usd: float | None
    window_reserved_usd: float | None
    window_limit_usd: float | None
    retry_after_seconds: float | None


def verdict_of(judgement: Judgement) -> Verdict:
    """A judgement as the caller of `evaluate` sees it."""
    mark, rule = judgement.watermark, judgement.rule
    return Verdict(
        decision=judgement.decision,
        reason=judgement.reason,
        effective_model_tier=judgement.effective.tier,
        policy_id=rule.id if rule else None,
        primitive=rule.primitive if rule else None,
        model=judgement.effective.model,
        estimated_cost_usd=usd_or_none(judgement.effective.expected_nano),
        reserved_cost_usd=from_nano(judgement.effective.reserved_nano),
        window_cost_usd=from_nano(mark.spent_nano) if mark else None,
        window_reserved_usd=from_nano(mark.reserved_nano) if mark else None,
        window_limit_usd=from_nano(mark.limit_nano) if mark else None,
        retry_after_seconds=judgement.retry_after_seconds,
    )
