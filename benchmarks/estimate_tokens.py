"""How far `llmscope.estimate_tokens` is off on this repository's own text, against a real tokeniser.

    .venv/bin/python benchmarks/estimate_tokens.py

Prints one line for each kind of text and, from the bundled production trace, what either way to reserve
would have held back. The tokeniser is `bpe_openai` (o200k_base, offline), which is no dependency of this
project: without it the script says so and prints what needs none. What does not belong here: speed.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscope import estimate_tokens

ROOT = Path(__file__).resolve().parents[1]
# What a prompt often is: a page, not a book. Long files are cut into pieces of about this size.
PIECE_CHARACTERS = 2000
# The bound and prices of the built-in routes' expensive tier (gpt-4o, USD per million tokens).
MAX_OUTPUT_TOKENS, INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK = 500, 2.50, 10.0


@dataclass(frozen=True)
class Errors:
    """Errors of one kind of text, as shares of the true count.

    Attributes:
        pieces, tokens: what was measured.
        total: of all pieces together: what a budget sees.
        low, median, high: of single pieces, the 5th, 50th and 95th percentile: what one request sees.
    """

    pieces: int
    tokens: int
    total: float
    low: float
    median: float
    high: float


def samples() -> dict[str, list[str]]:
    """Pieces of this repository's own files, by kind."""
    prose = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    code = [
        path for package in ("llmscope", "policy_runtime") for path in sorted((ROOT / package).rglob("*.py"))
    ]
    return {
        "English": [piece for path in prose for piece in _pieces(_prose_of(path.read_text("utf-8")))],
        "Markdown": [piece for path in prose for piece in _pieces(path.read_text("utf-8"))],
        "Python": [piece for path in code for piece in _pieces(path.read_text("utf-8"))],
        "SQL": [
            piece
            for path in sorted((ROOT / "sql").rglob("*.sql"))
            for piece in _pieces(path.read_text("utf-8"))
        ],
        "JSON log lines": list(_log_lines()),
    }


def errors_of(pieces: list[str], count: Callable[[str], int]) -> Errors:
    """How far the estimates of `pieces` are off from `count`."""
    truth = [count(piece) for piece in pieces]
    guesses = [estimate_tokens(piece) for piece in pieces]
    shares = sorted(guess / true - 1 for guess, true in zip(guesses, truth, strict=True))
    return Errors(
        pieces=len(pieces),
        tokens=sum(truth),
        total=sum(guesses) / sum(truth) - 1,
        low=shares[int(0.05 * (len(shares) - 1))],
        median=shares[len(shares) // 2],
        high=shares[round(0.95 * (len(shares) - 1))],
    )


@dataclass(frozen=True)
class Reserved:
    """What a way to reserve would have meant for one service of the trace, in USD.

    Attributes:
        per_request_usd: held back for each request under way.
        spent_per_request_usd: what each cost in the end, on average.
        exceeded_share: requests that cost more than was reserved for them.
        overshoot_share: Σ max(0, cost − reserved) as a share of what was spent: the first term of the
            overshoot bound.
    """

    per_request_usd: float
    spent_per_request_usd: float
    exceeded_share: float
    overshoot_share: float


def reserved_on(service: str, way: str) -> Reserved:
    """Replay one service of the trace: `worst_case` holds the bound, `expected` the mean answer so far.

    Answers longer than the bound are cut to it, as a provider would.
    """
    path = ROOT / "fixtures" / "traces" / f"azure_llm_inference_trace_2023_{service}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [
            (int(row["ContextTokens"]), min(int(row["GeneratedTokens"]), MAX_OUTPUT_TOKENS))
            for row in csv.DictReader(stream)
        ]
    held = spent = over = 0.0
    exceeded = seen = 0
    for number, (tokens_in, tokens_out) in enumerate(rows):
        mean_out = round(seen / number) if number else MAX_OUTPUT_TOKENS
        reserved = _usd(tokens_in, MAX_OUTPUT_TOKENS if way == "worst_case" else mean_out)
        cost = _usd(tokens_in, tokens_out)
        held, spent, over = held + reserved, spent + cost, over + max(0.0, cost - reserved)
        exceeded += cost > reserved
        seen += tokens_out
    return Reserved(held / len(rows), spent / len(rows), exceeded / len(rows), over / spent)


def _usd(tokens_in: int, tokens_out: int) -> float:
    return (tokens_in * INPUT_USD_PER_MTOK + tokens_out * OUTPUT_USD_PER_MTOK) / 1e6


def _pieces(text: str) -> Iterator[str]:
    """A text cut at line ends into pieces of about `PIECE_CHARACTERS`."""
    piece = ""
    for line in text.splitlines(keepends=True):
        piece += line
        if len(piece) >= PIECE_CHARACTERS:
            yield piece
            piece = ""
    if piece.strip():
        yield piece


def _prose_of(markdown: str) -> str:
    """Markdown without its code blocks, tables and code spans: plain English."""
    without_code = re.sub(r"^```.*?^```$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    lines = [line for line in without_code.splitlines(keepends=True) if not line.startswith("|")]
    return re.sub(r"`[^`\n]*`|[*#]", "", "".join(lines))


def _log_lines() -> Iterator[str]:
    """Lines as the two logs have them, whose figures differ from line to line."""
    for number in range(200):
        line: dict[str, Any] = {
            "schema_version": "0.1.0",
            "request_id": f"{number * 2654435761 % 2**32:08x}-4f1e-4c55-9b0a-{number * 40503 % 2**48:012x}",
            "tenant_id": f"tenant-{number % 12:02d}",
            "route": "/answer-routed",
            "provider_selected": "openai",
            "model_selected": "gpt-4o",
            "model_tier": "expensive",
            "tokens_in": 374 + 7 * number,
            "tokens_out": 44 + number,
            "estimated_cost_usd": round(_usd(374 + 7 * number, 44 + number), 9),
            "cost_source": "estimated_local_snapshot",
            "latency_ms": 812.5 + number / 8,
            "status": "success",
            "audit_tags": {"feature_id": "summarize", "experiment_id": f"exp-{number % 3}"},
            "timestamp": f"2026-03-24T10:{number % 60:02d}:00.{number * 4999 % 10**6:06d}+00:00",
        }
        yield json.dumps(line, separators=(",", ":"))


def main() -> None:
    """Print the tables of `docs/estimates.md`."""
    try:
        import bpe_openai
    except ImportError:
        sys.stdout.write("bpe_openai is not installed: pip install bpe_openai, to measure estimate_tokens\n")
    else:
        ranks = bpe_openai.get_encoding("o200k_base")
        sys.stdout.write(
            "| Text | Pieces | Tokens | All together | 5 % | Median | 95 % |\n|---|---|---|---|---|---|---|\n"
        )
        for kind, pieces in samples().items():
            found = errors_of(pieces, lambda text: len(ranks.encode(text)))
            sys.stdout.write(
                f"| {kind} | {found.pieces} | {found.tokens} | {found.total:+.0%} | {found.low:+.0%} "
                f"| {found.median:+.0%} | {found.high:+.0%} |\n"
            )
    sys.stdout.write(
        "\n| Trace | `reserve` | Held (USD) | Spent (USD) | Held / spent | Exceeded by | Overshoot |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for service in ("code", "conv"):
        for way in ("worst_case", "expected"):
            one = reserved_on(service, way)
            held, spent = one.per_request_usd, one.spent_per_request_usd
            sys.stdout.write(
                f"| {service} | `{way}` | {held:.5f} | {spent:.5f} | {held / spent:.2f} "
                f"| {one.exceeded_share:.0%} of requests | {one.overshoot_share:.1%} of spend |\n"
            )


if __name__ == "__main__":
    main()
