"""The questions against an independent computation in plain Python, and their sentences."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from scipy import stats

from governance_pipeline.economics import NO_ECONOMICS, Economics, load_economics
from governance_pipeline.errors import BadInput
from governance_pipeline.facts import build_fct_requests
from governance_pipeline.questions import QUESTIONS, build_question, question_named, select_question
from tests.governance_pipeline.staged_rows import START, staged

Rows = list[dict[str, Any]]
REVENUE_BY_TENANT = {"t0": Decimal("0.02"), "t1": Decimal("0.03")}
ECONOMICS = load_economics(
    {
        "revenue": [
            {"tenant_id": tenant, "revenue_per_request_usd": float(usd)}
            for tenant, usd in REVENUE_BY_TENANT.items()
        ],
        "experiments": {"e1": {"control": "e0"}},
    }
)


def random_rows(seed: int, count: int = 3000) -> tuple[Rows, Rows]:
    """Requests and decisions with unknown costs, latencies, features, routes and namespaces."""
    draw = random.Random(seed)
    requests, decisions = [], []
    for number in range(count):
        experiment = draw.choice([None, None, "e0", "e1"])
        fallback = draw.random() < 0.1
        winning = draw.lognormvariate(6, 0.5)
        cost = (
            Decimal(round(draw.lognormvariate(-4, 0.7) * (1.4 if experiment == "e1" else 1) * 10**9)) / 10**9
        )
        request = {
            "request_id": f"r{number}",
            "timestamp": START + timedelta(seconds=number),
            "tenant_id": f"t{draw.randrange(3)}",
            "feature_id": draw.choice(["f", "g", None]),
            "route_name": draw.choice(["/a", "/b", None]),
            "experiment_id": experiment,
            "cost_usd": None if draw.random() < 0.05 else cost,
            "is_success": draw.random() < 0.9,
            "tokens_in": draw.choice([None, draw.randrange(5000)]),
            "latency_ms": None
            if draw.random() < 0.05
            else winning + (draw.random() * 4000 if fallback else 0),
            "winning_attempt_ms": None if draw.random() < 0.1 else winning,
            "is_fallback": fallback,
        }
        decision = draw.choice(["allow", "allow", "downgrade", "deny"])
        if decision != "deny":
            requests.append(request)
        decisions.append(
            {
                "request_id": f"r{number}",
                "timestamp": START + timedelta(seconds=number),
                "charged_namespace": draw.choice([None, "n", "m"]),
                "decision": decision,
                "policy_id": None if decision == "allow" else draw.choice(["p", "q"]),
                "requested_estimated_cost_usd": Decimal(draw.randrange(10**8)) / 10**9,
                "estimated_cost_usd": Decimal(draw.randrange(10**7)) / 10**9,
                "window_cost_usd": Decimal(draw.randrange(10**9)) / 10**9,
                "window_reserved_usd": Decimal(draw.randrange(10**9)) / 10**9,
                "window_limit_usd": Decimal(2),
            }
        )
    return requests, decisions


def grouped(rows: Iterable[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], Rows]:
    groups: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in rows:
        groups[tuple(row.get(key) for key in keys)].append(row)
    return groups


def known(rows: Rows, key: str) -> list[Any]:
    return [row[key] for row in rows if row[key] is not None]


def mean_or_none(values: list[Any]) -> Any:
    return None if not values else pytest.approx(float(sum(values)) / len(values), rel=1e-9)


def margins(rows: Rows) -> list[Decimal]:
    return [
        REVENUE_BY_TENANT[row["tenant_id"]] * row["is_success"] - row["cost_usd"]
        for row in rows
        if row["cost_usd"] is not None and row["tenant_id"] in REVENUE_BY_TENANT
    ]


@pytest.fixture(scope="module", params=[1, 2])
def answered(request: pytest.FixtureRequest) -> tuple[Rows, Rows, dict[str, Rows]]:
    requests, decisions = random_rows(request.param)
    with staged(requests, decisions) as con:
        build_fct_requests(con, ECONOMICS)
        answers = {name: select_question(con, name, ECONOMICS) for name in QUESTIONS}
    return requests, decisions, answers


def test_cost_by_tenant_and_feature_agrees(answered: tuple[Rows, Rows, dict[str, Rows]]) -> None:
    requests, _, answers = answered
    groups = grouped(requests, "tenant_id", "feature_id")
    rows = answers["cost_by_tenant_and_feature"]
    assert len(rows) == len(groups)
    assert sum(row["total_cost_usd"] for row in rows) == sum(known(requests, "cost_usd"))
    assert [row["total_cost_usd"] for row in rows] == sorted(
        (row["total_cost_usd"] for row in rows), reverse=True
    )
    for row in rows:
        group = groups[row["tenant_id"], row["feature_id"]]
        costs = known(group, "cost_usd")
        assert row["total_cost_usd"] == sum(costs)
        assert row["avg_cost_usd"] == mean_or_none(costs)
        assert (row["request_count"], row["priced_count"]) == (len(group), len(costs))
        assert row["margin_per_request_usd"] == mean_or_none(margins(group))
        failures = [member for member in group if not member["is_success"]]
        assert row["error_cost_usd"] == sum(known(failures, "cost_usd"))
    assert rows[-1]["cumulative_cost_share"] == pytest.approx(1)


def test_experiment_cost_vs_outcome_agrees(answered: tuple[Rows, Rows, dict[str, Rows]]) -> None:
    requests, _, answers = answered
    arms = grouped(requests, "experiment_id")
    [treatment, control] = answers["experiment_cost_vs_outcome"]
    assert (treatment["experiment_id"], control["experiment_id"]) == ("e1", "e0")
    costs, base = ([float(cost) for cost in known(arms[id_,], "cost_usd")] for id_ in ("e1", "e0"))
    assert treatment["avg_cost_usd"] == pytest.approx(np.mean(costs))
    assert treatment["cost_delta_pct"] == pytest.approx(100 * (np.mean(costs) / np.mean(base) - 1))
    wanted = stats.ttest_ind(costs, base, equal_var=False).pvalue
    assert treatment["p_value_cost"] == pytest.approx(wanted, rel=1e-6)
    wins, losses = zip(
        *((sum(row["is_success"] for row in arms[id_,]), sum(not row["is_success"] for row in arms[id_,]))
          for id_ in ("e1", "e0")), strict=True)  # fmt: skip
    table = [[wins[0], losses[0]], [wins[1], losses[1]]]
    wanted = stats.chi2_contingency(table, correction=False).pvalue
    assert treatment["p_value_success"] == pytest.approx(wanted, rel=1e-9)
    assert treatment["verdict"] == "costlier_no_better"
    assert control["verdict"] == "control"


def test_budget_pressure_by_namespace_agrees(answered: tuple[Rows, Rows, dict[str, Rows]]) -> None:
    _, decisions, answers = answered
    groups = grouped([{**row, "ns": row["charged_namespace"] or "default"} for row in decisions], "ns")
    rows = answers["budget_pressure_by_namespace"]
    assert {row["budget_namespace"] for row in rows} == {key for (key,) in groups}
    for row in rows:
        group = groups[row["budget_namespace"],]
        by = {(kind): grouped(group, "decision")[kind,] for kind in ("allow", "downgrade", "deny")}
        assert [row[f"{kind}_count"] for kind in by] == [len(members) for members in by.values()]
        assert row["total_count"] == len(group)
        assert row["avoided_cost_usd"] == sum(member["requested_estimated_cost_usd"] for member in by["deny"])
        assert row["downgrade_savings_usd"] == sum(
            member["requested_estimated_cost_usd"] - member["estimated_cost_usd"]
            for member in by["downgrade"]
        )
        peak = max((member["window_cost_usd"] + member["window_reserved_usd"]) / 2 for member in group)
        assert row["peak_utilisation"] == pytest.approx(float(peak))
        acted = grouped(by["downgrade"] + by["deny"], "policy_id")
        assert row["top_policy_id"] == min(acted, key=lambda key: (-len(acted[key]), key))[0]


def test_fallback_latency_masking_agrees(answered: tuple[Rows, Rows, dict[str, Rows]]) -> None:
    requests, _, answers = answered
    timed = [row for row in requests if row["latency_ms"] is not None]
    groups = grouped(timed, "route_name", "is_fallback")
    rows = answers["fallback_latency_masking"]
    assert len(rows) == len(groups) == 6
    for row in rows:
        group = groups[row["route_name"], row["is_fallback"]]
        assert row["p95_latency_ms"] == pytest.approx(np.quantile(known(group, "latency_ms"), 0.95))
        assert row["avg_latency_ms"] == pytest.approx(np.mean(known(group, "latency_ms")))
        attempted = [member for member in group if member["winning_attempt_ms"] is not None]
        winners = known(attempted, "winning_attempt_ms")
        assert row["winning_attempt_p95_ms"] == pytest.approx(np.quantile(winners, 0.95))
        if row["is_fallback"]:
            usual = np.quantile(known(groups[row["route_name"], False], "latency_ms"), 0.95)
            masked = [m for m in attempted if m["winning_attempt_ms"] <= usual < m["latency_ms"]]
            assert row["masked_share"] == pytest.approx(len(masked) / len(attempted))
            waits = [member["latency_ms"] - member["winning_attempt_ms"] for member in attempted]
            assert row["masked_latency_ms"] == pytest.approx(np.mean(waits), abs=1e-6)


def test_unsafe_routes_agrees(answered: tuple[Rows, Rows, dict[str, Rows]]) -> None:
    requests, _, answers = answered
    rows = answers["unsafe_routes"]
    routes = grouped(requests, "route_name")
    features = grouped([row for row in requests if row["feature_id"] is not None], "route_name", "feature_id")
    assert len(rows) == len(routes) + len(features)
    for row in rows:
        whole = row["feature_id"] is None
        group = routes[row["route_name"],] if whole else features[row["route_name"], row["feature_id"]]
        costs = known(group, "cost_usd")
        assert row["avg_cost_usd"] == mean_or_none(costs)
        assert row["max_cost_usd"] == float(max(costs))
        assert row["margin_per_request_usd"] == mean_or_none(margins(group))
        assert row["verdict"] == ("unsafe" if sum(margins(group)) < 0 else "safe")
    verdicts = [row["verdict"] for row in rows]
    assert verdicts == sorted(verdicts, key=["unsafe", "unknown", "safe"].index)


def test_the_cross_check_sees_a_wrong_sum(answered: tuple[Rows, Rows, dict[str, Rows]]) -> None:
    """Twin: one request left out of the independent side is noticed."""
    requests, decisions, answers = answered
    paid = next(number for number, row in enumerate(requests) if row["cost_usd"])
    with pytest.raises(AssertionError):
        test_cost_by_tenant_and_feature_agrees((requests[:paid] + requests[paid + 1 :], decisions, answers))


def test_answers_do_not_depend_on_the_order_of_rows() -> None:
    requests, decisions = random_rows(3, 500)
    answers = []
    for seed in (None, 4):
        if seed:
            random.Random(seed).shuffle(requests)
        with staged(requests, decisions) as con:
            con.execute("SET threads = 2")
            build_fct_requests(con, ECONOMICS)
            answers.append({name: select_question(con, name, ECONOMICS) for name in QUESTIONS})
    assert answers[0] == answers[1]


def answer_to(
    name: str, requests: Rows, decisions: Rows | None = None, economics: Economics = NO_ECONOMICS
) -> str:
    with staged(requests, decisions or []) as con:
        build_fct_requests(con, economics)
        return QUESTIONS[name].answer_sentence(select_question(con, name, economics))


PAID = {"tenant_id": "acme", "feature_id": "code", "route_name": "/r", "cost_usd": "0.03", "repeat": 40}
THIN = load_economics({"revenue": [{"tenant_id": "acme", "revenue_per_request_usd": 0.02}]})
FULL = load_economics({"revenue": [{"revenue_per_request_usd": 0.04}]})


@pytest.mark.parametrize(
    ("name", "requests", "decisions", "economics", "says"),
    [
        (
            "cost_by_tenant_and_feature",
            [PAID],
            [],
            THIN,
            "Tenant acme's feature code, with 100 % of all cost, burns",
        ),
        ("cost_by_tenant_and_feature", [PAID], [], FULL, "No tenant or feature loses money: the thinnest"),
        ("cost_by_tenant_and_feature", [PAID], [], NO_ECONOMICS, "costs the most, 1.20 USD or 100 %"),
        ("cost_by_tenant_and_feature", [{"cost_usd": None}], [], NO_ECONOMICS, "It cannot be told"),
        ("unsafe_routes", [PAID], [], THIN, "Route /r is no longer margin-safe: it loses 0.0100 USD"),
        ("unsafe_routes", [PAID], [], FULL, "Every route and feature is margin-safe."),
        ("unsafe_routes", [{**PAID, "cost_usd": 1}], [], NO_ECONOMICS, "above the threshold of 0.0500 USD"),
        ("unsafe_routes", [{"cost_usd": None}], [], NO_ECONOMICS, "It cannot be told: none of 1 request has"),
        ("experiment_cost_vs_outcome", [PAID], [], NO_ECONOMICS, "No experiment was running"),
        ("budget_pressure_by_namespace", [], [{}], NO_ECONOMICS, "No budget namespace triggers"),
        (
            "budget_pressure_by_namespace",
            [],
            [{"decision": "downgrade", "charged_namespace": "team"}],
            NO_ECONOMICS,
            "Budget namespace team triggers the most downgrades (1 of 1",
        ),
        (
            "fallback_latency_masking",
            [{**PAID, "latency_ms": 5.0}],
            [],
            NO_ECONOMICS,
            "No fallback answered any",
        ),
        (
            "fallback_latency_masking",
            [{"latency_ms": 5.0}, {"latency_ms": 9.0, "is_fallback": True}],
            [],
            NO_ECONOMICS,
            "It cannot be told: fallbacks answered 1 request,",
        ),
        (
            "fallback_latency_masking",
            [
                {"route_name": "/r", "latency_ms": 5.0},
                {"route_name": "/r", "latency_ms": 900.0, "winning_attempt_ms": 4.0, "is_fallback": True},
            ],
            [],
            NO_ECONOMICS,
            "Fallbacks on route /r mask latency: the attempts that answered look normal, but callers waited 896 ms",
        ),
    ],
)
def test_the_sentence_names_the_culprit_or_says_that_there_is_none(
    name: str, requests: Rows, decisions: Rows, economics: Economics, says: str
) -> None:
    assert says in answer_to(name, requests, decisions, economics)


def test_the_sentence_about_experiments_names_the_costlier_one() -> None:
    dearer = {**PAID, "experiment_id": "v2", "cost_usd": "0.05"}
    control = {**PAID, "experiment_id": "control"}
    assert "Experiment v2 costs 67 % more per request than control" in answer_to(
        "experiment_cost_vs_outcome", [dearer, control]
    )
    assert "No experiment increased cost without" in answer_to(
        "experiment_cost_vs_outcome", [{**PAID, "experiment_id": "v2"}, control]
    )


@pytest.mark.parametrize("name", QUESTIONS)
def test_empty_logs_give_no_rows_and_a_sentence(name: str) -> None:
    with staged() as con:
        build_fct_requests(con, NO_ECONOMICS)
        build_question(con, name)
        assert select_question(con, name) == []
        columns = [row[0] for row in con.execute(f"DESCRIBE marts.{name}").fetchall()]
    assert tuple(columns) == QUESTIONS[name].columns
    assert QUESTIONS[name].answer_sentence([]).endswith(".")


def test_what_an_answer_was_built_with_is_kept() -> None:
    with staged([PAID]) as con:
        build_fct_requests(con, THIN)
        build_question(con, "unsafe_routes", THIN, threshold_usd=0.5)
        kept = con.execute(
            "SELECT mart, threshold_usd, economics_hash FROM ops.mart_configuration"
        ).fetchall()
    assert kept == [("fct_requests", None, THIN.hash), ("unsafe_routes", 0.5, THIN.hash)]


def test_an_unknown_question_or_a_useless_threshold_is_refused() -> None:
    with pytest.raises(BadInput, match="unsafe_routes"):
        question_named("unsafe_route")
    with staged() as con, pytest.raises(BadInput, match="takes no threshold"):
        select_question(con, "cost_by_tenant_and_feature", threshold_usd=1)
