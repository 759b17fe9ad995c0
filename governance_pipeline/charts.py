"""One chart per question, drawn from the same rows as its sentence and its table.

    chart_svg("unsafe_routes", rows)        # SVG, text
    chart_markdown("unsafe_routes", rows)   # the same inside a Markdown image, for the asset catalogue

Every chart is horizontal bars, at most `MOST_BARS` of them in the order of the answer; what answers the
question is orange, everything else blue or grey.

What does not belong here: the drawing itself (`chart_drawing`), the sentence (`answer_sentences`), the
table (`assets/presentation`).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from governance_pipeline.chart_drawing import Bar, Chart, draw
from governance_pipeline.questions import question_named
from governance_pipeline.wording import counted

Row = Mapping[str, Any]

MOST_BARS = 12
_LABEL_CHARACTERS = 44
# Okabe and Ito's palette, told apart with every kind of colour vision (jfly.uni-koeln.de/color, 2008).
_CULPRIT, _PLAIN, _SECOND, _MUTED = "#D55E00", "#0072B2", "#E69F00", "#B8B8B8"
_LARGEST_USD = 1e9


def chart_svg(question: str, rows: Sequence[Row]) -> str:
    """The answer to a question as an SVG picture of 900 pixels' width.

    Args:
        question: its name.
        rows: the answer, in the question's order; none gives a picture that says so.

    Raises:
        BadInput: no question has that name.
    """
    asked = question_named(question)
    return draw(asked.words, _CHARTS[asked.name](rows))


def chart_markdown(question: str, rows: Sequence[Row]) -> str:
    """The chart as a Markdown image that needs no other file. Arguments and errors as `chart_svg`."""
    picture = base64.b64encode(chart_svg(question, rows).encode()).decode("ascii")
    return f"![{question_named(question).words}](data:image/svg+xml;base64,{picture})"


def _cost_chart(rows: Sequence[Row]) -> Chart:
    """Margin per request where revenue is known, thinnest first; else what each row cost in all."""
    known = [row for row in rows if row["margin_per_request_usd"] is not None]
    if known:
        shown = sorted(known, key=lambda row: float(row["margin_per_request_usd"]))[:MOST_BARS]
        bars = tuple(
            Bar(
                _tenant_and_feature(row),
                ((float(row["margin_per_request_usd"]), _loss_colour(row["margin_per_request_usd"])),),
                f"{_usd(row['margin_per_request_usd'])}, {counted(row['request_count'], 'request')}",
            )
            for row in shown
        )
        legend = ((_CULPRIT, "loses money"), (_PLAIN, "earns money"))
        return Chart("margin per request, USD", bars, legend, _usd, left_out=len(rows) - len(shown))
    priced = [row for row in rows if row["priced_count"]]
    bars = tuple(
        Bar(
            _tenant_and_feature(row),
            ((float(row["total_cost_usd"]), _PLAIN),),
            f"{_usd(row['total_cost_usd'])}, {_percent(row['cost_share'])} of all",
        )
        for row in priced[:MOST_BARS]
    )
    return Chart("total cost, USD", bars, (), _usd, left_out=len(rows) - len(bars))


def _experiment_chart(rows: Sequence[Row]) -> Chart:
    """Mean cost per request of each experiment; what its control costs is marked."""
    cost_of = {row["experiment_id"]: row["avg_cost_usd"] for row in rows}
    priced = [row for row in rows if row["avg_cost_usd"] is not None]
    colours = {"costlier_no_better": _CULPRIT, "control": _MUTED, "inconclusive": _MUTED}
    bars = []
    for row in priced[:MOST_BARS]:
        notes = [row["verdict"].replace("_", " ")]
        if row["cost_delta_pct"] is not None:
            notes.append(f"cost {row['cost_delta_pct']:+,.0f} %")
        if row["success_delta"] is not None:
            notes.append(f"success {100 * row['success_delta']:+.1f} points")
        base = cost_of.get(row["control_id"])
        if base is None and row["cost_delta_pct"] is not None:
            base = row["avg_cost_usd"] / (1 + row["cost_delta_pct"] / 100)
        bars.append(
            Bar(
                _text(row["experiment_id"], "no experiment"),
                ((float(row["avg_cost_usd"]), colours.get(row["verdict"], _PLAIN)),),
                ", ".join(notes),
                None if base is None else float(base),
            )
        )
    legend = (
        (_CULPRIT, "costlier, no better"),
        (_PLAIN, "other verdicts"),
        (_MUTED, "controls and undecided"),
    )
    return Chart(
        "average cost per request, USD",
        tuple(bars),
        legend,
        _usd,
        left_out=len(rows) - len(bars),
        mark="its control",
    )


def _masking_chart(rows: Sequence[Row]) -> Chart:
    """What callers waited, and within it what the attempt that answered took."""
    bars = []
    for row in rows[:MOST_BARS]:
        waited = float(row["p95_latency_ms"])
        masking = row["verdict"] == "masking"
        choice = "fallback" if row["is_fallback"] else "first choice"
        note = f"{waited:,.0f} ms"
        if masking:
            note += f", {_percent(row['masked_share'])} masked"
        winning = row["winning_attempt_p95_ms"]
        bars.append(
            Bar(
                f"{_text(row['route_name'], 'no route')} · {choice}",
                ((waited, _CULPRIT if masking else _PLAIN if row["is_fallback"] else _MUTED),),
                note,
                None if winning is None else float(winning),
            )
        )
    legend = ((_CULPRIT, "fallback that masks"), (_PLAIN, "other fallback"), (_MUTED, "first choice"))
    return Chart(
        "what the caller waited (95th percentile), ms",
        tuple(bars),
        legend,
        _plain_number,
        left_out=len(rows) - len(bars),
        mark="the answering attempt alone (95th percentile)",
    )


def _pressure_chart(rows: Sequence[Row]) -> Chart:
    """Shares of decisions by outcome, so that a small namespace under pressure is seen beside a large one."""
    bars = []
    for row in rows[:MOST_BARS]:
        total = row["total_count"]
        peak = row["peak_utilisation"]
        note = f"{row['deny_count']:,} denied, {row['downgrade_count']:,} downgraded of {total:,}"
        if peak is not None:
            note += f"; {_percent(peak)} of the limit at the peak"
        bars.append(
            Bar(
                _text(row["budget_namespace"], "default"),
                (
                    (100 * row["deny_count"] / total, _CULPRIT),
                    (100 * row["downgrade_count"] / total, _SECOND),
                    (100 * row["allow_count"] / total, _MUTED),
                ),
                note,
            )
        )
    legend = ((_CULPRIT, "denied"), (_SECOND, "downgraded"), (_MUTED, "allowed"))
    return Chart("share of decisions, %", tuple(bars), legend, _plain_number, left_out=len(rows) - len(bars))


def _unsafe_chart(rows: Sequence[Row]) -> Chart:
    """Margin per request where it is known for every priced row, else average cost against the threshold."""
    by_margin = all(row["margin_per_request_usd"] is not None for row in rows if row["priced_count"])
    measure = "margin_per_request_usd" if by_margin else "avg_cost_usd"
    shown = [row for row in rows if row[measure] is not None][:MOST_BARS]
    bars = tuple(
        Bar(
            _route_and_feature(row),
            ((float(row[measure]), _CULPRIT if row["verdict"] == "unsafe" else _PLAIN),),
            f"{_usd(row[measure])}, {row['verdict']}",
        )
        for row in shown
    )
    threshold = rows[0]["threshold_usd"] if rows else None
    return Chart(
        "margin per request, USD" if by_margin else "average cost per request, USD",
        bars,
        ((_CULPRIT, "unsafe"), (_PLAIN, "safe")),
        _usd,
        line=None
        if by_margin or threshold is None
        else (float(threshold), f"threshold {_usd(threshold)} USD"),
        left_out=len(rows) - len(shown),
    )


_CHARTS: Mapping[str, Callable[[Sequence[Row]], Chart]] = {
    "cost_by_tenant_and_feature": _cost_chart,
    "experiment_cost_vs_outcome": _experiment_chart,
    "fallback_latency_masking": _masking_chart,
    "budget_pressure_by_namespace": _pressure_chart,
    "unsafe_routes": _unsafe_chart,
}


def _tenant_and_feature(row: Row) -> str:
    return f"{_text(row['tenant_id'], 'default')} · {_text(row['feature_id'], 'no feature')}"


def _route_and_feature(row: Row) -> str:
    route = _text(row["route_name"], "no route")
    return (
        f"{route} · whole route" if row["feature_id"] is None else f"{route} · {_text(row['feature_id'], '')}"
    )


def _text(value: Any, otherwise: str) -> str:
    text = otherwise if value is None else " ".join(str(value).split())
    half = _LABEL_CHARACTERS // 2
    return text if len(text) <= half else f"{text[: half - 1]}…"


def _loss_colour(margin_usd: Any) -> str:
    return _CULPRIT if margin_usd < 0 else _PLAIN


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:,.0f} %"


def _plain_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < _LARGEST_USD else f"{value:.2g}"


def _usd(amount: Any) -> str:
    """Dollars with three significant digits, and cents at least."""
    value = float(amount)
    if value == 0:
        return "0"
    if abs(value) >= _LARGEST_USD:
        return f"{value:.3g}"
    decimals = min(9, max(2, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}".replace("-", "−")
