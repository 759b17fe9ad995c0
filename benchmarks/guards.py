"""How many of the personal data and injections in labelled texts the guards find, how much else they take
for it, and how long a look takes.

What does not belong here: the texts (`guard_texts`, `fixtures/guards`), the guards themselves.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.figures import Figure, benchmark
from benchmarks.guard_texts import Label, unmarked
from llmscope.gateway.guards.findings import Finding
from llmscope.gateway.guards.injection import PromptInjectionGuard
from llmscope.gateway.guards.pii import ALL_KINDS, PiiGuard
from llmscope.gateway.guards.redaction import findings_in
from llmscope.gateway.stages import Guard

FIXTURES = Path(__file__).parents[1] / "fixtures" / "guards"
PROSE = Path(__file__).parents[1] / "docs" / "semantics.md"


@dataclass
class Score:
    """What was found of what there is.

    Attributes:
        right: findings that are labelled so.
        wrong: findings that are not.
        found: labels found whole (every character of it under a finding of its kind).
        missed: labels not found, or not whole, as text and value: only invented ones are shown.
    """

    right: int = 0
    wrong: list[str] = field(default_factory=list)
    found: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def precision(self) -> float:
        """Share of findings that are right; 1 where nothing was found."""
        raised = self.right + len(self.wrong)
        return self.right / raised if raised else 1.0

    @property
    def recall(self) -> float:
        """Share of labels that were found; 1 where there are none."""
        labels = self.found + len(self.missed)
        return self.found / labels if labels else 1.0


def labelled(name: str) -> list[tuple[str, list[Label]]]:
    """The texts of a fixture with their labels."""
    lines = (FIXTURES / name).read_text(encoding="utf-8").splitlines()
    return [unmarked(json.loads(line)["marked"]) for line in lines]


def judge_pii(texts: Iterable[tuple[str, list[Label]]]) -> dict[str, Score]:
    """Hold what `PiiGuard` finds against the labels, by kind."""
    finders = PiiGuard()._by_direction["in"].finders
    scores = {kind: Score() for kind in ALL_KINDS}
    for text, labels in texts:
        findings = list(findings_in(text, finders))
        for finding in findings:
            score = scores[finding.kind]
            if any(label.kind == finding.kind and _overlap(label, finding) for label in labels):
                score.right += 1
            else:
                score.wrong.append(text[finding.begin : finding.end])
        for label in labels:
            score = scores[label.kind]
            if _is_covered(label, findings):
                score.found += 1
            else:
                score.missed.append(text[label.begin : label.end])
    return scores


def _overlap(label: Label, finding: Finding) -> bool:
    return finding.begin < label.end and label.begin < finding.end


def _is_covered(label: Label, findings: Sequence[Finding]) -> bool:
    return any(
        finding.kind == label.kind and finding.begin <= label.begin and label.end <= finding.end
        for finding in findings
    )


def injection_texts(name: str = "injection.jsonl") -> list[tuple[str, bool]]:
    """The texts of a fixture, and whether each is an attempt at an injection."""
    lines = (FIXTURES / name).read_text(encoding="utf-8").splitlines()
    return [(line["text"], line["is_attack"]) for line in map(json.loads, lines)]


def judge_injections(texts: Iterable[tuple[str, bool]]) -> Score:
    """Hold what `PromptInjectionGuard` would block against the labels."""
    guard, score = PromptInjectionGuard(), Score()
    for text, is_attack in texts:
        is_found = guard.score(text) >= 1
        score.right += is_found and is_attack
        score.found += is_found and is_attack
        if is_found and not is_attack:
            score.wrong.append(text)
        if is_attack and not is_found:
            score.missed.append(text)
    return score


def a_thousand_characters(texts: Iterable[str]) -> list[str]:
    """The texts one behind the other, cut into prompts of 1,000 characters."""
    joined = "\n\n".join(texts)
    return [joined[at : at + 1000] for at in range(0, len(joined) - 999, 1000)]


def p50_of_check_us(guard: Guard, texts: Sequence[str]) -> float:
    """Median processor time of one look at one of `texts`, in microseconds: of each the best of five."""

    async def look() -> float:
        times = []
        for text in texts:
            best = float("inf")
            for _ in range(5):
                started = time.process_time_ns()
                await guard.check(text, "in")
                best = min(best, time.process_time_ns() - started)
            times.append(best / 1000)
        return statistics.median(times)

    return asyncio.run(look())


@benchmark("guards")
def guards() -> Iterator[Figure]:
    """Precision and recall by kind on the generated, the hard and the held-out texts; time per look."""
    for name, goal in (("pii", 0.95), ("pii_hard", 0.85), ("pii_held_out", 0.85)):
        for kind, score in judge_pii(labelled(f"{name}.jsonl")).items():
            yield from _precision_and_recall(name.replace("pii", kind), score, goal, goal)
    for name, least_recall in (("injection", 0.7), ("injection_held_out", 0.5)):
        score = judge_injections(injection_texts(f"{name}.jsonl"))
        yield from _precision_and_recall(name, score, 0.9, least_recall)
    prompts = a_thousand_characters(text for text, _ in labelled("pii.jsonl"))
    alike = a_thousand_characters(text for text, is_attack in injection_texts() if not is_attack)
    prose = a_thousand_characters([PROSE.read_text(encoding="utf-8")])
    for figure, guard, looked_at in (
        ("guard_pii_prose", PiiGuard(), prose),
        ("guard_pii_numbers", PiiGuard(), prompts),
        ("guard_injection_prose", PromptInjectionGuard(), prose),
        ("guard_injection_alike", PromptInjectionGuard(), alike),
    ):
        yield Figure(figure, p50_of_check_us(guard, looked_at), "us for 1,000 characters", 100, 1)


def _precision_and_recall(
    name: str, score: Score, least_precision: float, least_recall: float
) -> Iterator[Figure]:
    print(f"# {name}: wrong {sorted(set(score.wrong))}, missed {sorted(set(score.missed))}", file=sys.stderr)
    raised, labels = score.right + len(score.wrong), score.found + len(score.missed)
    for figure, value, unit, goal in (
        ("precision", score.precision, f"of {raised} findings", least_precision),
        ("recall", score.recall, f"of {labels} labels", least_recall),
    ):
        yield Figure(f"guard_{name}_{figure}", value, unit, 1, goal, at_least=True)
