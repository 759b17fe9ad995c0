"""Drawing a chart of horizontal bars as a PNG picture.

Equal charts give equal bytes. matplotlib is imported when the first one is drawn, and only its figure
objects are used, never pyplot, so nothing is shared between threads or left behind.

What does not belong here: which rows become which bars (`charts`).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from governance_pipeline.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH_INCHES = 9.0
_BAR_INCHES = 0.34
_FRAME_INCHES = 1.35
_DOTS_PER_INCH = 100
_INK = "#333333"


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a chart.

    Attributes:
        label: what it is about.
        parts: lengths, one after the other, each with its colour.
        note: said at its end.
        mark: a place marked on it, None for none.
    """

    label: str
    parts: tuple[tuple[float, str], ...]
    note: str
    mark: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart before it is drawn.

    Attributes:
        axis: what the lengths are, with their unit.
        bars: from top to bottom.
        legend: what the colours and the mark mean.
        line: a limit drawn across all bars, with its words.
        tick: a length as it is written along the axis.
        left_out: rows of the answer that are not drawn.
        mark: what the mark on a bar means.
    """

    axis: str
    bars: tuple[Bar, ...]
    legend: tuple[tuple[str, str], ...]
    tick: Callable[[float], str]
    line: tuple[float, str] | None = None
    left_out: int = 0
    mark: str = ""


def draw(title: str, chart: Chart) -> bytes:
    """The chart under its title; without bars a picture that says so."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (half a second of imports)

    height = _FRAME_INCHES + _BAR_INCHES * max(len(chart.bars), 2)
    figure = Figure(figsize=(_WIDTH_INCHES, height), dpi=_DOTS_PER_INCH, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=_INK, fontfamily="DejaVu Sans")
    if chart.bars:
        _draw_bars(figure, chart)
    else:
        figure.text(0.5, 0.45, "There is nothing to draw yet.", ha="center", color=_INK, fontsize=10)
    return _as_png(figure)


def _draw_bars(figure: Figure, chart: Chart) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415
    from matplotlib.patches import Patch  # noqa: PLC0415

    axes = figure.add_subplot()
    places = range(len(chart.bars))
    spans = [(min(0.0, sum(n for n, _ in bar.parts)), sum(n for n, _ in bar.parts)) for bar in chart.bars]
    marks = [bar.mark for bar in chart.bars if bar.mark is not None]
    limits = [chart.line[0]] if chart.line else []
    low = min(0.0, *(low for low, _ in spans))
    high = max(0.0, *(high for _, high in spans), *marks, *limits)
    width = (high - low) or 1.0
    for place, bar in zip(places, chart.bars, strict=True):
        begin = 0.0
        for length, colour in bar.parts:
            axes.barh(place, length, left=begin, color=colour, height=0.62, linewidth=0)
            begin += length
        if bar.mark is not None:
            axes.plot([bar.mark, bar.mark], [place - 0.38, place + 0.38], color=_INK, linewidth=2)
        beside = max(0.0, begin, bar.mark or 0.0) + 0.012 * width
        axes.text(beside, place, _drawable(bar.note), va="center", fontsize=8, color=_INK, parse_math=False)
    # Room at the right for the longest note, at about 0.0105 of the picture's width a character.
    longest = max(len(bar.note) for bar in chart.bars)
    axes.set_xlim(low - 0.01 * width, low + width / max(0.35, 1 - 0.0105 * longest))
    axes.set_ylim(len(chart.bars) - 0.4, -0.6)
    axes.set_yticks(list(places), labels=[_drawable(bar.label) for bar in chart.bars], fontsize=8.5)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    # Where only notes stand there is nothing to measure.
    axes.xaxis.set_major_formatter(
        lambda value, _position: chart.tick(value) if value <= high + 0.02 * width else ""
    )
    axes.tick_params(axis="x", labelsize=8, colors=_INK)
    axes.tick_params(axis="y", length=0, colors=_INK)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(_axis_words(chart), fontsize=8.5, color=_INK, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.axvline(0, color=_INK, linewidth=0.8)
    keys: list[Any] = [
        Patch(color=colour, label=words)
        for colour, words in chart.legend
        if any(colour == used and length for bar in chart.bars for length, used in bar.parts)
    ]
    if chart.line:
        axes.axvline(chart.line[0], color=_INK, linewidth=1, linestyle="--")
        keys.append(Line2D([], [], color=_INK, linewidth=1, linestyle="--", label=chart.line[1]))
    if marks:
        keys.append(
            Line2D(
                [], [], color=_INK, linewidth=2, marker="|", linestyle="none", markersize=9, label=chart.mark
            )
        )
    if keys:
        axes.legend(
            handles=keys, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, frameon=False,
            borderaxespad=0.2, handlelength=1.2, columnspacing=1.4,
        )  # fmt: skip


def _axis_words(chart: Chart) -> str:
    if not chart.left_out:
        return chart.axis
    return f"{chart.axis} ({counted(chart.left_out, 'more row is', 'more rows are')} not drawn)"


def _as_png(figure: Figure) -> bytes:
    """The figure in 64 colours: a fifth of the size, and nothing in it says when or by what it was drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = bytes(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.frombytes("RGBA", canvas.get_width_height(), pixels).convert("RGB")
    png = io.BytesIO()
    picture.quantize(64, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        png, "PNG", optimize=True
    )
    return png.getvalue()


@cache
def _glyphs() -> frozenset[int]:
    """The characters that matplotlib's own font can draw."""
    from matplotlib.font_manager import findfont, get_font  # noqa: PLC0415

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _drawable(text: str) -> str:
    glyphs = _glyphs()
    return "".join(character if ord(character) in glyphs else "\ufffd" for character in text)
