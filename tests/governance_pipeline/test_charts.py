"""Charts: one per question, from any rows, the same text for the same rows, and little of it."""

from __future__ import annotations

import base64
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from dagster import AssetKey

from governance_pipeline.answers import ask
from governance_pipeline.chart_drawing import WIDTH_PX
from governance_pipeline.charts import MOST_BARS, chart_markdown, chart_svg
from governance_pipeline.dagster_home import open_instance
from governance_pipeline.errors import BadInput
from governance_pipeline.materialize import materialize_all
from governance_pipeline.questions import QUESTIONS
from tests.governance_pipeline.refresh_logs import settings_in, write_ordinary_logs

CULPRIT = "#D55E00"
SVG = "{http://www.w3.org/2000/svg}"

ORDINARY: dict[str, list[dict[str, Any]]] = {
    "cost_by_tenant_and_feature": [
        {"tenant_id": "acme", "feature_id": "chat", "total_cost_usd": Decimal("1.5"), "cost_share": 0.75,
         "request_count": 100, "priced_count": 99, "margin_per_request_usd": -0.002},
        {"tenant_id": "zeta", "feature_id": None, "total_cost_usd": Decimal("0.5"), "cost_share": 0.25,
         "request_count": 1, "priced_count": 1, "margin_per_request_usd": 0.004},
    ],
    "experiment_cost_vs_outcome": [
        {"experiment_id": "long", "avg_cost_usd": 0.03, "control_id": "long-control", "cost_delta_pct": 200.0,
         "success_delta": -0.004, "verdict": "costlier_no_better"},
        {"experiment_id": "long-control", "avg_cost_usd": 0.01, "control_id": None, "cost_delta_pct": None,
         "success_delta": None, "verdict": "control"},
    ],
    "fallback_latency_masking": [
        {"route_name": "/chat", "is_fallback": True, "p95_latency_ms": 9000.0, "masked_share": 0.9,
         "winning_attempt_p95_ms": 800.0, "verdict": "masking"},
        {"route_name": None, "is_fallback": False, "p95_latency_ms": 900.0, "masked_share": None,
         "winning_attempt_p95_ms": None, "verdict": "not_masking"},
    ],
    "budget_pressure_by_namespace": [
        {"budget_namespace": "trial", "allow_count": 60, "downgrade_count": 10, "deny_count": 30,
         "total_count": 100, "peak_utilisation": 0.99},
        {"budget_namespace": "default", "allow_count": 5, "downgrade_count": 0, "deny_count": 0,
         "total_count": 5, "peak_utilisation": None},
    ],
    "unsafe_routes": [
        {"route_name": "/chat", "feature_id": None, "avg_cost_usd": 0.08, "margin_per_request_usd": None,
         "priced_count": 7, "threshold_usd": 0.05, "verdict": "unsafe"},
        {"route_name": "/code", "feature_id": "code", "avg_cost_usd": 0.01, "margin_per_request_usd": None,
         "priced_count": 7, "threshold_usd": 0.05, "verdict": "safe"},
    ],
}  # fmt: skip
EVERY = pytest.mark.parametrize("question", list(QUESTIONS))


def rectangles(svg: str) -> list[dict[str, str]]:
    return [element.attrib for element in ElementTree.fromstring(svg).iter(f"{SVG}rect")]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def bars(svg: str) -> list[tuple[float, str]]:
    """Length and colour of each bar, from top to bottom."""
    found = [each for each in rectangles(svg) if each.get("height") == "16"]
    return [
        (float(each["width"]), each["fill"])
        for each in sorted(found, key=lambda each: (float(each["y"]), float(each["x"])))
    ]


@EVERY
def test_the_culprit_is_orange_and_without_one_nothing_is(question: str) -> None:
    rows = ORDINARY[question]
    assert any(colour == CULPRIT and length > 40 for length, colour in bars(chart_svg(question, rows)))
    assert CULPRIT not in chart_svg(question, rows[1:])


def test_lengths_are_in_proportion_and_each_bar_says_what_it_is() -> None:
    svg = chart_svg("experiment_cost_vs_outcome", ORDINARY["experiment_cost_vs_outcome"])
    [(long, _), (control, _)] = bars(svg)
    assert long / control == pytest.approx(3, rel=0.01)
    assert {"long", "long-control", "control"} <= set(texts(svg))
    svg = chart_svg("budget_pressure_by_namespace", ORDINARY["budget_pressure_by_namespace"][:1])
    denied, downgraded, allowed = (length for length, _ in bars(svg))
    assert (downgraded / denied, allowed / denied) == pytest.approx((1 / 3, 2), rel=0.01)


def test_losses_lie_left_of_zero() -> None:
    svg = chart_svg("cost_by_tenant_and_feature", ORDINARY["cost_by_tenant_and_feature"])
    lost, earned = (each for each in rectangles(svg) if each.get("height") == "16")
    assert float(lost["x"]) + float(lost["width"]) == pytest.approx(float(earned["x"]), abs=0.2)
    assert "−0.00200, 100 requests" in texts(svg)
    assert "0.00400, 1 request" in texts(svg)


@EVERY
def test_nothing_is_drawn_beyond_the_picture(question: str) -> None:
    svg = chart_svg(question, ORDINARY[question] * 3)
    for each in rectangles(svg):
        assert 0 <= float(each.get("x", 0)) <= float(each.get("x", 0)) + float(each["width"]) <= WIDTH_PX
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        wide = 0.62 * 11 * len(element.text or "") if element.get("text-anchor") is None else 0
        assert float(element.attrib["x"]) + min(wide, WIDTH_PX / 2) < WIDTH_PX + 1, element.text


@EVERY
def test_equal_rows_give_equal_text_and_other_rows_another(question: str) -> None:
    rows = ORDINARY[question]
    assert chart_svg(question, rows) == chart_svg(question, [dict(row) for row in rows])
    assert chart_svg(question, rows) != chart_svg(question, rows[:1])


@EVERY
@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_any_number_of_rows_gives_a_picture_of_bounded_size(question: str, count: int) -> None:
    svg = chart_svg(question, (ORDINARY[question] * 500)[:count])
    root = ElementTree.fromstring(svg)
    assert root.get("width") == "900"
    assert 150 < int(root.attrib["height"]) < 200 + 40 * MOST_BARS
    assert len(svg) < 5_000, "it is kept with every refresh"


@EVERY
def test_unknown_numbers_and_names_that_no_font_or_formula_reader_likes_are_drawn(question: str) -> None:
    odd = ["$x^{2$", "日本語 🚀", "a" * 500, "", "line\nbreak\ttab\x00", "\\frac{", "_$_$_"]
    [row] = ORDINARY[question][:1]
    names = [key for key, value in row.items() if isinstance(value, str) and key != "verdict"]
    rows = [row | dict.fromkeys(names, name) for name in odd]
    assert ElementTree.fromstring(chart_svg(question, rows)) is not None


@EVERY
@pytest.mark.parametrize("scale", [0, 1e-9, 1e9, 1e28])
def test_numbers_of_any_size_are_drawn(question: str, scale: float) -> None:
    rows = [
        {
            key: value * scale if key.endswith(("_usd", "_ms")) and isinstance(value, float) else value
            for key, value in row.items()
        }
        for row in ORDINARY[question]
    ]
    assert '"nan"' not in chart_svg(question, rows)


def test_the_threshold_is_drawn_where_it_judges() -> None:
    rows = ORDINARY["unsafe_routes"]
    margins = [row | {"margin_per_request_usd": 0.01} for row in rows]
    assert chart_svg("unsafe_routes", margins) == chart_svg(
        "unsafe_routes", [row | {"threshold_usd": 0.7} for row in margins]
    )
    assert chart_svg("unsafe_routes", rows) != chart_svg(
        "unsafe_routes", [row | {"threshold_usd": 0.06} for row in rows]
    )


def test_the_picture_stands_in_the_markdown_itself() -> None:
    markdown = chart_markdown("unsafe_routes", ORDINARY["unsafe_routes"])
    begin = "![Which routes or features are no longer margin-safe?](data:image/svg+xml;base64,"
    assert markdown.startswith(begin)
    assert base64.b64decode(markdown.removeprefix(begin)[:-1]).decode() == chart_svg(
        "unsafe_routes", ORDINARY["unsafe_routes"]
    )


def test_there_is_no_chart_of_an_unknown_question() -> None:
    with pytest.raises(BadInput, match="no question is named"):
        chart_svg("weather", [])


def test_each_question_asset_carries_the_chart_of_its_answer(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    write_ordinary_logs(settings, 20)
    assert materialize_all(settings, say=lambda sentence: None).succeeded
    with open_instance(settings) as instance:
        for question in QUESTIONS:
            event = instance.get_latest_materialization_event(AssetKey(question))
            assert event is not None
            assert event.asset_materialization is not None
            answer = ask(question, settings)
            rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
            assert event.asset_materialization.metadata["chart"].value == chart_markdown(question, rows)
