"""The five canonical questions: their names, words, columns, SQL, and the answer as rows, table, sentence.

Every question is a function of `marts.fct_requests` (and economics.yaml), so the same SQL answers from
the warehouse, from published facts and straight from two log files.

    as_of = build_fct_requests(con, economics)            # governance_pipeline.facts
    build_question(con, "unsafe_routes", economics)       # writes marts.unsafe_routes
    rows = select_question(con, "unsafe_routes", economics, since=...)
    QUESTIONS["unsafe_routes"].answer_sentence(rows)

What does not belong here: the wording of answers (`answer_sentences`) and judging experiments
(`statistics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import duckdb

from governance_pipeline import answer_sentences
from governance_pipeline.economics import NO_ECONOMICS, Economics, ExperimentThresholds, bind_economics
from governance_pipeline.errors import BadInput
from governance_pipeline.facts import record_configuration
from governance_pipeline.sql_files import load_sql
from governance_pipeline.statistics import IS_CONTROL, Arm, compare_arms
from llmscope.money import MAX_USD

Row = dict[str, Any]

_EMPTY_ARM = Arm(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Question:
    """One canonical question.

    Attributes:
        name: of its asset, its table in `marts` and its file in `sql/questions/`.
        words: the question as a person asks it.
        columns: of the answer, in order.
        sentence: from the rows to one plain sentence; call `answer_sentence`.
        takes_threshold: whether `--threshold` means something to it.
    """

    name: str
    words: str
    columns: tuple[str, ...]
    sentence: Callable[[Sequence[Mapping[str, Any]]], str]
    takes_threshold: bool = False

    def answer_sentence(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """The answer in one sentence: the culprit, or that there is none, or that it cannot be told."""
        return self.sentence(rows)

    @property
    def sql_name(self) -> str:
        """The name by which `load_sql` knows its statement."""
        return f"questions/{self.name}"


_ALL = (
    Question(
        "cost_by_tenant_and_feature",
        "Which tenant or feature burns the most margin per request?",
        (
            "tenant_id",
            "feature_id",
            "total_cost_usd",
            "avg_cost_usd",
            "request_count",
            "priced_count",
            "unpriced_count",
            "revenue_usd",
            "margin_usd",
            "margin_per_request_usd",
            "error_cost_usd",
            "cost_share",
            "cumulative_cost_share",
        ),
        answer_sentences.cost_by_tenant_and_feature,
    ),
    Question(
        "experiment_cost_vs_outcome",
        "Which experiment increased cost without improving outcome?",
        (
            "experiment_id",
            "avg_tokens_in",
            "avg_tokens_out",
            "avg_cost_usd",
            "success_rate",
            "request_count",
            "priced_count",
            "unpriced_count",
            "control_id",
            "cost_delta_pct",
            "success_delta",
            "p_value_cost",
            "p_value_success",
            "verdict",
        ),
        answer_sentences.experiment_cost_vs_outcome,
    ),
    Question(
        "fallback_latency_masking",
        "Which fallbacks or routing choices are masking latency?",
        (
            "route_name",
            "is_fallback",
            "p95_latency_ms",
            "avg_latency_ms",
            "request_count",
            "winning_attempt_p95_ms",
            "masked_latency_ms",
            "masked_share",
            "verdict",
        ),
        answer_sentences.fallback_latency_masking,
    ),
    Question(
        "budget_pressure_by_namespace",
        "Which budget namespaces are triggering downgrades or denials?",
        (
            "budget_namespace",
            "allow_count",
            "downgrade_count",
            "deny_count",
            "total_count",
            "peak_utilisation",
            "top_policy_id",
            "avoided_cost_usd",
            "downgrade_savings_usd",
            "shadow_deny_count",
        ),
        answer_sentences.budget_pressure_by_namespace,
    ),
    Question(
        "unsafe_routes",
        "Which routes or features are no longer margin-safe?",
        (
            "route_name",
            "avg_cost_usd",
            "max_cost_usd",
            "request_count",
            "priced_count",
            "unpriced_count",
            "feature_id",
            "revenue_per_request_usd",
            "margin_per_request_usd",
            "threshold_usd",
            "verdict",
        ),
        answer_sentences.unsafe_routes,
        takes_threshold=True,
    ),
)

QUESTIONS: Mapping[str, Question] = MappingProxyType({question.name: question for question in _ALL})


def question_named(name: str) -> Question:
    """The question of that name.

    Raises:
        BadInput: there is none; the message lists the five.
    """
    try:
        return QUESTIONS[name]
    except KeyError:
        raise BadInput(f"no question is named {name!r}; ask one of: {', '.join(QUESTIONS)}") from None


def select_question(
    con: duckdb.DuckDBPyConnection,
    name: str,
    economics: Economics = NO_ECONOMICS,
    *,
    since: datetime | None = None,
    threshold_usd: float | None = None,
) -> list[Row]:
    """Answer a question from `marts.fct_requests` (a table or a view) without writing into the warehouse.

    Args:
        name: of the question.
        economics: experiment controls and thresholds; revenue is already in the facts.
        since: only what happened from this instant on; None for all.
        threshold_usd: for `unsafe_routes`: held against every row, also where the margin is known.

    Raises:
        BadInput: no such question, or a threshold for one that takes none.
    """
    text, params = _prepare(con, question_named(name), economics, since, threshold_usd)
    cursor = con.execute(text, params)
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, values, strict=True)) for values in cursor.fetchall()]


def build_question(
    con: duckdb.DuckDBPyConnection,
    name: str,
    economics: Economics = NO_ECONOMICS,
    *,
    since: datetime | None = None,
    threshold_usd: float | None = None,
) -> None:
    """Replace `marts.<name>` by the answer, in the order of the question, and keep in
    `ops.mart_configuration` what it was built with. Arguments and errors as `select_question`."""
    question = question_named(name)
    text, params = _prepare(con, question, economics, since, threshold_usd)
    # Two constants of this package are joined here; every value stays bound.
    con.execute(f"CREATE OR REPLACE TABLE marts.{question.name} AS {text}", params)
    record_configuration(
        con, question.name, since=since, threshold_usd=threshold_usd, economics_hash=economics.hash
    )


def read_question(con: duckdb.DuckDBPyConnection, name: str) -> list[Row]:
    """The rows of `marts.<name>` as it was built last."""
    cursor = con.execute(f"SELECT * FROM marts.{question_named(name).name}")
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, values, strict=True)) for values in cursor.fetchall()]


def _prepare(
    con: duckdb.DuckDBPyConnection,
    question: Question,
    economics: Economics,
    since: datetime | None,
    threshold_usd: float | None,
) -> tuple[str, dict[str, Any]]:
    """The question's statement and its values; what it reads besides the facts is laid out first."""
    if threshold_usd is not None and not question.takes_threshold:
        raise BadInput(f"{question.name} takes no threshold; only unsafe_routes does")
    if threshold_usd is not None and not 0 <= threshold_usd < MAX_USD:
        raise BadInput(
            f"the threshold is {threshold_usd}; write USD per request, from 0 to below {MAX_USD:,}"
        )
    if question.name == "experiment_cost_vs_outcome":
        bind_economics(con, economics)
        _judge_experiments(con, since, economics.file.thresholds.experiments)
    available = {
        "since": since,
        "threshold_usd": economics.file.thresholds.unsafe_routes.threshold_usd
        if threshold_usd is None
        else threshold_usd,
        "threshold_for_all": threshold_usd is not None,
    }
    file = load_sql(question.sql_name)
    (statement,) = file.statements
    return statement.text, {name: available[name] for name in file.parameters}


def _judge_experiments(
    con: duckdb.DuckDBPyConnection, since: datetime | None, thresholds: ExperimentThresholds
) -> None:
    """Sum both arms of every experiment in SQL, judge them in Python, lay the verdicts out for SQL."""
    load_sql("marts/experiment_arms").execute(con, since=since)
    arms: dict[str, dict[str, Arm]] = {}
    controls: dict[str, str | None] = {}
    for experiment_id, control_id, arm, *sums in (
        load_sql("marts/experiment_arms_rows").execute(con).fetchall()
    ):
        controls[experiment_id] = control_id
        arms.setdefault(experiment_id, {})[arm] = _arm_from(*sums)
    load_sql("marts/experiment_verdicts").execute(con)
    insert = load_sql("marts/experiment_insert_verdict")
    for experiment_id, sides in arms.items():
        if controls[experiment_id] is None:
            comparison = IS_CONTROL
        else:
            comparison = compare_arms(
                sides["treatment"],
                sides.get("control", _EMPTY_ARM),
                alpha=thresholds.alpha,
                min_samples=thresholds.min_samples,
                success_margin=thresholds.success_margin,
            )
        insert.execute(
            con,
            experiment_id=experiment_id,
            cost_delta_pct=comparison.cost_delta_pct,
            success_delta=comparison.success_delta,
            p_value_cost=comparison.p_value_cost,
            p_value_success=comparison.p_value_success,
            verdict=comparison.verdict,
        )


def _arm_from(
    request_count: int,
    success_count: int,
    priced_count: int,
    dollars: int,
    nanos: int,
    dollars_dollars: int,
    dollars_nanos: int,
    nanos_nanos: int,
) -> Arm:
    """An arm from sums over dollars and nano-dollars apart: (10⁹·d + n)² = 10¹⁸·d² + 2·10⁹·dn + n²."""
    return Arm(
        request_count,
        success_count,
        priced_count,
        10**9 * dollars + nanos,
        10**18 * dollars_dollars + 2 * 10**9 * dollars_nanos + nanos_nanos,
    )
