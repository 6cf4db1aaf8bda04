"""Line charts as SVG text, in the page's own colours."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from jaxclust.report.colours import COLOURS

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 340, 180, 48, 22, 8, 10
_POINTS = 240


class Line(NamedTuple):
    """A curve: places and equally many finite values."""

    x: Sequence[float]
    y: Sequence[float]


def line_chart(
    lines: Mapping[str, Line], marks: Sequence[float] = (), title: str = "", x_title: str = "steps"
) -> str:
    """An SVG element; its label says what it shows, too.

    Args:
        lines: by name; those without values are left out.
        marks: places of dashed vertical lines.
        title: of the chart.
        x_title: of the x axis.
    """
    kept = {name: _thinned(line) for name, line in lines.items() if len(line.x)}
    frame = _frame(kept.values())
    curves, said = [], []
    for i, (name, line) in enumerate(kept.items()):
        curves.append(_curve(frame, line, COLOURS[i % len(COLOURS)]))
        said.append(f"{name} from {line.y[0]:.4g} to {line.y[-1]:.4g}")
    label = f"{title}: {'; '.join(said)}; {x_title} {frame.left:g} to {frame.right:g}"
    parts = [*_grid(frame), *_marks(frame, marks), *_below(frame, x_title), *curves]
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


class _Frame(NamedTuple):
    """The values that a chart spans, and its ticks."""

    left: float
    right: float
    low: float
    high: float
    ticks: list[float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a value lies in the image."""
        across = (x - self.left) / (self.right - self.left) if self.right > self.left else 0.5
        return (
            _LEFT + across * (_WIDTH - _LEFT - _RIGHT),
            _TOP + (self.high - y) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM),
        )


def _frame(lines: Iterable[Line]) -> _Frame:
    lines = list(lines)
    xs = [value for line in lines for value in line.x]
    ys = [value for line in lines for value in line.y]
    low, high = min(ys), max(ys)
    if high - low < 1e-12:
        low, high = low - 0.5 * abs(low) - 1e-6, high + 0.5 * abs(high) + 1e-6
    ticks = _ticks(low, high)
    return _Frame(min(xs), max(xs), min(low, ticks[0]), max(high, ticks[-1]), ticks)


def _grid(frame: _Frame) -> list[str]:
    """A line and a number for each tick."""
    parts = []
    for tick in frame.ticks:
        y = frame.at(frame.left, tick)[1]
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text x="{_LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{tick:.10g}</text>'
        )
    return parts


def _marks(frame: _Frame, marks: Sequence[float]) -> list[str]:
    """Vertical lines; none on the chart's own edges."""
    places = [frame.at(m, frame.low)[0] for m in marks if frame.left < m < frame.right]
    return [f'<path class="mark" d="M{x:.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>' for x in places]


def _below(frame: _Frame, x_title: str) -> list[str]:
    """The ends of the x axis, and its title in between."""
    parts = []
    for value, anchor in ((frame.left, "start"), (frame.right, "end")):
        x, _ = frame.at(value, frame.low)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 7}" text-anchor="{anchor}">{value:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{_HEIGHT - 7}" text-anchor="middle">{escape(x_title)}</text>'
    )
    return parts


def _curve(frame: _Frame, line: Line, colour: str) -> str:
    points = " ".join("{:.1f},{:.1f}".format(*frame.at(x, y)) for x, y in zip(*line, strict=True))
    return f'<polyline points="{points}" style="stroke:{colour}"/>'


def _thinned(line: Line) -> Line:
    """Means over equal intervals, if there are more points than a chart can show."""
    count = len(line.x)
    if count <= _POINTS:
        return line
    edges = [round(i * count / _POINTS) for i in range(_POINTS + 1)]
    pairs = list(itertools.pairwise(edges))
    xs = [line.x[stop - 1] for _, stop in pairs]
    return Line(xs, [math.fsum(line.y[i:j]) / (j - i) for i, j in pairs])


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that span the values."""
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]
