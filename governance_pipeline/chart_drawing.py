"""Drawing a chart of horizontal bars as an SVG picture, a few kilobytes of text.

It stands in the metadata of each materialisation, so that every byte of it is kept once per refresh. Equal
charts give equal text. How wide a text will be is estimated, for the reader's fonts are not known here.

What does not belong here: which rows become which bars (`charts`).
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from governance_pipeline.wording import counted

WIDTH_PX = 900
_EDGE_PX = 12
_TOP_PX = 64
_ROW_PX = 25
_BAR_PX = 16
_FOOT_PX = 46
_NARROWEST_PLOT_PX = 160
_TITLE_SIZE, _TEXT_SIZE = 15, 11
# The mean advance of DejaVu Sans and Verdana, the widest of the fonts asked for; the scripts from U+2E80 on
# are about square.
_ADVANCE_EM, _SQUARE_EM = 0.62, 1.0
_FIRST_SQUARE = 0x2E80
_INK, _GRID, _PAPER = "#333", "#ddd", "#fff"
_TICKS = 5
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
        legend: what the colours mean.
        tick: a length as it is written along the axis.
        line: a limit drawn across all bars, with its words.
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


def draw(title: str, chart: Chart) -> str:
    """The chart under its title; without bars a picture that says so."""
    height = _TOP_PX + _ROW_PX * max(len(chart.bars), 2) + _FOOT_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height}" '
        f'viewBox="0 0 {WIDTH_PX} {height}" role="img" font-family="DejaVu Sans,Verdana,sans-serif" '
        f'font-size="{_TEXT_SIZE}" fill="{_INK}">',
        f"<title>{_xml(title)}</title>",
        f'<rect width="{WIDTH_PX}" height="{height}" fill="{_PAPER}"/>',
        _text(_EDGE_PX, 26, title, f' font-size="{_TITLE_SIZE}"'),
    ]
    if chart.bars:
        parts += [*_legend(chart), *_bars(chart)]
    else:
        parts.append(
            _text(WIDTH_PX / 2, _TOP_PX + _ROW_PX, "There is nothing to draw yet.", ' text-anchor="middle"')
        )
    return "".join([*parts, "</svg>"])


def _legend(chart: Chart) -> Iterator[str]:
    used = {colour for bar in chart.bars for length, colour in bar.parts if length}
    x, y = float(_EDGE_PX), 48
    keys = [
        (f'<rect x="{{}}" y="{y - 9}" width="10" height="10" fill="{colour}"/>', words)
        for colour, words in chart.legend
        if colour in used
    ]
    if any(bar.mark is not None for bar in chart.bars):
        keys.append((f'<rect x="{{}}" y="{y - 10}" width="2" height="12"/>', chart.mark))
    if chart.line:
        keys.append((f'<rect x="{{}}" y="{y - 5}" width="8" height="1"/>', chart.line[1]))
    for key, words in keys:
        yield key.format(_px(x))
        yield _text(x + 14, y, words)
        x += 14 + _width_px(words) + 16


def _bars(chart: Chart) -> Iterator[str]:
    totals = [sum(length for length, _ in bar.parts) for bar in chart.bars]
    marks = [bar.mark for bar in chart.bars if bar.mark is not None]
    low = min(0.0, *totals)
    high = max(0.0, *totals, *marks, *([chart.line[0]] if chart.line else []))
    span = (high - low) or 1.0
    left = _EDGE_PX + 8 + max(_width_px(bar.label) for bar in chart.bars)
    notes = 8 + max(_width_px(bar.note) for bar in chart.bars)
    plot = max(_NARROWEST_PLOT_PX, WIDTH_PX - _EDGE_PX - notes - left)

    def at(value: float) -> float:
        return left + plot * ((value - low) / span)

    bottom = _TOP_PX + _ROW_PX * len(chart.bars)
    for value in _ticks(low, high):
        yield f'<path d="M{_px(at(value))} {_TOP_PX}V{bottom + 4}" stroke="{_GRID}"/>'
        yield _text(at(value), bottom + 16, chart.tick(value), ' text-anchor="middle"')
    for place, bar in enumerate(chart.bars):
        y = _TOP_PX + _ROW_PX * place + (_ROW_PX - _BAR_PX) / 2
        middle = y + _BAR_PX / 2 + _TEXT_SIZE * 0.36
        yield _text(left - 6, middle, bar.label, ' text-anchor="end"')
        begin = 0.0
        for length, colour in bar.parts:
            if length:
                place_and_size = (
                    f'x="{_px(at(min(begin, begin + length)))}" y="{_px(y)}" '
                    f'width="{_px(plot * (abs(length) / span))}" height="{_BAR_PX}"'
                )
                yield f'<rect {place_and_size} fill="{colour}"/>'
            begin += length
        if bar.mark is not None:
            yield f'<rect x="{_px(at(bar.mark) - 1)}" y="{_px(y - 2)}" width="2" height="{_BAR_PX + 4}"/>'
        yield _text(at(max(0.0, begin, bar.mark or 0.0)) + 6, middle, bar.note)
    yield f'<path d="M{_px(at(0.0))} {_TOP_PX}V{bottom + 4}" stroke="{_INK}"/>'
    if chart.line:
        dashed = f'stroke="{_INK}" stroke-dasharray="4 3"'
        yield f'<path d="M{_px(at(chart.line[0]))} {_TOP_PX}V{bottom + 4}" {dashed}/>'
    yield _text(left, bottom + 34, _axis_words(chart))


def _ticks(low: float, high: float) -> list[float]:
    """Round places along the axis, zero among them, about `_TICKS` of them."""
    span = high - low
    if span <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= _TICKS)
    return [step * count for count in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _axis_words(chart: Chart) -> str:
    if not chart.left_out:
        return chart.axis
    return f"{chart.axis} ({counted(chart.left_out, 'more row is', 'more rows are')} not drawn)"


def _width_px(text: str) -> float:
    """How wide a text is at most likely to be."""
    return _TEXT_SIZE * sum(_SQUARE_EM if ord(each) >= _FIRST_SQUARE else _ADVANCE_EM for each in text)


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{_px(x)}" y="{_px(y)}"{attributes}>{_xml(text)}</text>'


def _xml(text: str) -> str:
    """A text as XML may hold it."""
    return html.escape(_NO_XML.sub("\ufffd", text), quote=False)


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
