"""The five answers against pandas: the demo replays a sample of the Azure trace through the real gate and the
real pipeline, and everything is computed again from the two JSONL files with json, pandas and scipy alone.

Nothing here reads SQL or calls code of the project to compute; sums of money are of whole nano-dollars.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console
from scipy import stats

from governance_pipeline.answers import Answer, ask
from governance_pipeline.demo.folder import DemoFiles
from governance_pipeline.demo.run import run_demo
from governance_pipeline.demo.trace import every_nth, load_trace
from governance_pipeline.questions import QUESTIONS
from governance_pipeline.settings import Settings
from tests.end_to_end.test_demo import TOLD

NOW = datetime(2026, 11, 21, 4, 20, tzinfo=UTC)
GOOD_ENDS = {"stop", "end_turn", "stop_sequence", "tool_calls"}
UNSAFE_USD = 0.05
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> DemoFiles:
    """One demo with the story as it is told, on every ninth row of the trace."""
    quiet = Console(file=io.StringIO())
    rows = every_nth(load_trace(), 9)
    home = tmp_path_factory.mktemp("demo") / "home"
    result = run_demo(home, now=NOW, story=TOLD, rows=rows, console=quiet, progress_console=quiet)
    assert result.failure is None
    return result.files


def nano(usd: Any) -> int | None:
    if usd is None:
        return None
    return int((Decimal(repr(usd)) * 10**9).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def events_of(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def said(event: dict[str, Any], *keys: str) -> Any:
    """The first of these keys that the event gives, at its top or in its audit tags."""
    tags = event.get("audit_tags") or {}
    return next(
        (place[key] for key in keys for place in (event, tags) if place.get(key) not in (None, "")), None
    )


def requests_frame(files: DemoFiles) -> pd.DataFrame:
    """One row per request with telemetry, with what economics.yaml says it earned."""
    earns = {
        rule["route_name"]: nano(rule["revenue_per_request_usd"])
        for rule in yaml.safe_load(files.economics.read_text())["revenue"]
    }
    rows = []
    for event in events_of(files.telemetry):
        if event.get("event", "request") != "request":
            continue
        end, attempts = event.get("finish_reason"), event.get("attempts") or []
        unknown = event["status"] == "error" and event.get("cost_source") == "degraded_unknown"
        success = end in GOOD_ENDS if end else event["status"] in ("success", "ok", "cached")
        cost = None if unknown else nano(event.get("estimated_cost_usd"))
        route = said(event, "route", "route_name")
        revenue = (earns[route] if success else 0) if route in earns else None
        rows.append(
            {
                "request_id": event["request_id"],
                "tenant_id": said(event, "tenant_id") or "default",
                "feature_id": said(event, "feature_id", "use_case"),
                "experiment_id": said(event, "experiment_id"),
                "route_name": route,
                "is_fallback": bool(event.get("fallback_triggered")),
                "tokens_in": event["tokens_in"],
                "tokens_out": event["tokens_out"],
                "latency_ms": event["latency_ms"],
                "winning_ms": attempts[-1]["latency_ms"] if attempts else None,
                "success": success,
                "cost": cost,
                "revenue": revenue,
                "margin": None if revenue is None or cost is None else revenue - cost,
            }
        )
    frame = pd.DataFrame(rows)
    assert frame["request_id"].is_unique
    return frame.astype(dict.fromkeys(["cost", "revenue", "margin"], "Int64"))


def usd(nanos: Any) -> Decimal | None:
    return None if pd.isna(nanos) else Decimal(int(nanos)) / 10**9


def per(nanos: Any, count: int) -> float | None:
    return int(nanos) / 1e9 / count if count else None


def known(series: pd.Series) -> Any:
    """The sum of what is known, None when nothing is."""
    return series.sum() if series.count() else None


def cost_by_tenant_and_feature(files: DemoFiles) -> Rows:
    frame = requests_frame(files)
    grand = frame["cost"].sum()
    rows: Rows = []
    for (tenant, feature), group in frame.groupby(["tenant_id", "feature_id"], dropna=False):
        margin = known(group["margin"])
        rows.append(
            {
                "tenant_id": tenant,
                "feature_id": feature,
                "total_cost_usd": usd(group["cost"].sum()),
                "avg_cost_usd": per(group["cost"].sum(), group["cost"].count()),
                "request_count": len(group),
                "priced_count": group["cost"].count(),
                "unpriced_count": group["cost"].isna().sum(),
                "revenue_usd": usd(known(group["revenue"])),
                "margin_usd": usd(margin),
                "margin_per_request_usd": None if margin is None else per(margin, group["margin"].count()),
                "error_cost_usd": usd(group.loc[~group["success"], "cost"].sum()),
                "cost_share": group["cost"].sum() / grand,
            }
        )
    rows.sort(key=lambda row: (-row["total_cost_usd"], row["tenant_id"], row["feature_id"]))
    shares = np.cumsum([float(row["cost_share"]) for row in rows])
    return [row | {"cumulative_cost_share": share} for row, share in zip(rows, shares, strict=True)]


def experiment_cost_vs_outcome(files: DemoFiles) -> Rows:
    frame = requests_frame(files)
    registered = {
        name: entry["control"]
        for name, entry in yaml.safe_load(files.economics.read_text())["experiments"].items()
    }
    arms = dict(iter(frame[frame["experiment_id"].notna()].groupby("experiment_id")))
    rows: Rows = []
    for name, arm in arms.items():
        costs = arm["cost"].dropna().astype(float) / 1e9
        row = {
            "experiment_id": name,
            "avg_tokens_in": arm["tokens_in"].mean(),
            "avg_tokens_out": arm["tokens_out"].mean(),
            "avg_cost_usd": per(arm["cost"].sum(), arm["cost"].count()),
            "success_rate": arm["success"].mean(),
            "request_count": len(arm),
            "priced_count": arm["cost"].count(),
            "unpriced_count": arm["cost"].isna().sum(),
            "control_id": registered.get(name),
            "cost_delta_pct": None,
            "success_delta": None,
            "p_value_cost": None,
            "p_value_success": None,
            "verdict": "control",
        }
        if name in registered:
            control = arms[registered[name]]
            base = control["cost"].dropna().astype(float) / 1e9
            table = [[part["success"].sum(), (~part["success"]).sum()] for part in (arm, control)]
            all_alike = 0 in np.sum(table, axis=0)
            delta = arm["success"].mean() - control["success"].mean()
            p_cost = stats.ttest_ind(costs, base, equal_var=False).pvalue
            p_success = 1.0 if all_alike else stats.chi2_contingency(table, correction=False).pvalue
            row |= {
                "cost_delta_pct": 100 * (costs.mean() / base.mean() - 1),
                "success_delta": delta,
                "p_value_cost": p_cost,
                "p_value_success": p_success,
                "verdict": verdict(costs, base, delta, p_cost, p_success),
            }
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["avg_cost_usd"], row["experiment_id"]))


def verdict(costs: pd.Series, base: pd.Series, delta: float, p_cost: float, p_success: float) -> str:
    """The demo has no experiment that is cheaper; one would have to be judged here."""
    if min(len(costs), len(base)) < 30 or p_cost >= 0.05:
        return "inconclusive"
    assert costs.mean() > base.mean()
    return "costlier_better" if p_success < 0.05 and delta > 0 else "costlier_no_better"


def fallback_latency_masking(files: DemoFiles) -> Rows:
    frame = requests_frame(files).dropna(subset=["latency_ms"])
    usual = frame[~frame["is_fallback"]].groupby("route_name")["latency_ms"].quantile(0.95)
    rows: Rows = []
    for (route, is_fallback), group in frame.groupby(["route_name", "is_fallback"]):
        p95 = usual.get(route)
        told = group.dropna(subset=["winning_ms"])
        share = hidden = None
        if is_fallback and len(told):
            hidden = (told["latency_ms"] - told["winning_ms"]).mean()
            share = ((told["winning_ms"] <= p95) & (told["latency_ms"] > p95)).mean()
        rows.append(
            {
                "route_name": route,
                "is_fallback": is_fallback,
                "p95_latency_ms": group["latency_ms"].quantile(0.95),
                "avg_latency_ms": group["latency_ms"].mean(),
                "request_count": len(group),
                "winning_attempt_p95_ms": group["winning_ms"].quantile(0.95),
                "masked_latency_ms": hidden,
                "masked_share": share,
                "verdict": "unknown" if is_fallback and share is None else
                "masking" if is_fallback and share > 0.05 else "not_masking",
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: -row["p95_latency_ms"])


def budget_pressure_by_namespace(files: DemoFiles) -> Rows:
    frame = pd.DataFrame(
        {
            "namespace": event["charged_namespace"],
            "decision": event["decision"],
            "policy_id": event.get("policy_id"),
            "asked": nano(event.get("requested_estimated_cost_usd")),
            "got": nano(event.get("estimated_cost_usd")),
            "used": (nano(event.get("window_cost_usd")) or 0) + (nano(event.get("window_reserved_usd")) or 0),
            "limit": nano(event.get("window_limit_usd")),
            "shadow": any(
                rule.get("mode") == "shadow" and rule["outcome"] == "deny" for rule in event["rules"]
            ),
        }
        for event in events_of(files.decisions)
        if event.get("event", "decision") == "decision"
    )
    rows: Rows = []
    for namespace, group in frame.groupby("namespace"):
        counts = group["decision"].value_counts()
        denied, lowered = group[group["decision"] == "deny"], group[group["decision"] == "downgrade"]
        limited = group[group["limit"].fillna(0) > 0]
        acting = pd.concat([denied, lowered])["policy_id"].mode()
        rows.append(
            {
                "budget_namespace": namespace,
                "allow_count": counts.get("allow", 0),
                "downgrade_count": counts.get("downgrade", 0),
                "deny_count": counts.get("deny", 0),
                "total_count": len(group),
                "peak_utilisation": (limited["used"] / limited["limit"]).max() if len(limited) else None,
                "top_policy_id": acting.min() if len(acting) else None,
                "avoided_cost_usd": usd(sum(denied["asked"].dropna().astype(int))),
                "downgrade_savings_usd": usd(sum((lowered["asked"] - lowered["got"]).dropna().astype(int))),
                "shadow_deny_count": group["shadow"].sum(),
            }
        )
    return sorted(
        rows,
        key=lambda row: (
            -(row["downgrade_count"] + row["deny_count"]), -row["total_count"], row["budget_namespace"],
        ),
    )  # fmt: skip


def unsafe_routes(files: DemoFiles) -> Rows:
    frame = requests_frame(files)
    whole = [(route, None, group) for route, group in frame.groupby("route_name")]
    parts = [(*keys, group) for keys, group in frame.groupby(["route_name", "feature_id"])]
    rows: Rows = []
    for route, feature, group in whole + parts:
        margin = known(group["margin"])
        rows.append(
            {
                "route_name": route,
                "avg_cost_usd": per(group["cost"].sum(), group["cost"].count()),
                "max_cost_usd": float(group["cost"].max()) / 1e9,
                "request_count": len(group),
                "priced_count": group["cost"].count(),
                "unpriced_count": group["cost"].isna().sum(),
                "feature_id": feature,
                "revenue_per_request_usd": per(group["revenue"].sum(), group["revenue"].count()),
                "margin_per_request_usd": per(margin, group["margin"].count()),
                "threshold_usd": UNSAFE_USD,
                "verdict": "unsafe" if margin < 0 else "safe",
            }
        )
    return sorted(
        rows,
        key=lambda row: (
            row["verdict"] == "safe", row["margin_per_request_usd"], -row["avg_cost_usd"], row["route_name"],
            row["feature_id"] is not None,
        ),
    )  # fmt: skip


COMPUTED: dict[str, Callable[[DemoFiles], Rows]] = {
    function.__name__: function
    for function in (
        cost_by_tenant_and_feature,
        experiment_cost_vs_outcome,
        fallback_latency_masking,
        budget_pressure_by_namespace,
        unsafe_routes,
    )
}


def published(files: DemoFiles, question: str) -> Answer:
    settings = Settings.in_home(files.home, policy_path=files.policy, economics_path=files.economics)
    return ask(question, settings)


def differences(answer: Answer, wanted: Rows) -> list[str]:
    """Where the answer says something else: every row, every column, money to the nano-dollar."""
    if len(answer.rows) != len(wanted):
        return [f"{len(answer.rows)} rows, not {len(wanted)}"]
    found = []
    for number, (row, expected) in enumerate(zip(answer.rows, wanted, strict=True)):
        assert set(answer.columns) == set(expected)
        for column, value in zip(answer.columns, row, strict=True):
            other = expected[column]
            if isinstance(value, float) and other is not None:
                same = value == pytest.approx(float(other), rel=1e-9, abs=1e-12)
            else:
                same = value == (None if other is not None and pd.isna(other) else other)
            if not same:
                found.append(f"row {number} {column}: {value!r}, not {other!r}")
    return found


@pytest.mark.parametrize("question", list(QUESTIONS))
def test_each_answer_is_what_pandas_computes_from_the_two_logs(replayed: DemoFiles, question: str) -> None:
    answer = published(replayed, question)
    assert answer.rows
    assert answer.columns == QUESTIONS[question].columns
    assert differences(answer, COMPUTED[question](replayed)) == []


def test_twin_one_nano_dollar_changed_in_the_log_after_ingest_is_seen(replayed: DemoFiles) -> None:
    before = replayed.telemetry.read_bytes()
    lines = before.splitlines(keepends=True)
    place = next(
        number for number, line in enumerate(lines)
        if b"experiment_id" in line and json.loads(line)["estimated_cost_usd"]
    )  # fmt: skip
    event = json.loads(lines[place])
    event["estimated_cost_usd"] = round(event["estimated_cost_usd"] + 1e-9, 9)
    lines[place] = json.dumps(event).encode() + b"\n"
    try:
        replayed.telemetry.write_bytes(b"".join(lines))
        seen = {question: differences(published(replayed, question), compute(replayed))
                for question, compute in COMPUTED.items()}  # fmt: skip
    finally:
        replayed.telemetry.write_bytes(before)
    assert any("total_cost_usd" in said for said in seen["cost_by_tenant_and_feature"])
    assert any("margin_usd" in said for said in seen["cost_by_tenant_and_feature"])
    assert seen["fallback_latency_masking"] == []
    assert seen["budget_pressure_by_namespace"] == []
