"""What metrics.jsonl holds, as charts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxclust.clustering.host.cluster_count import Curve
from jaxclust.report.chart import Line, line_chart
from jaxclust.report.colours import COLOURS


class Panel(NamedTuple):
    """A chart with its legend."""

    title: str
    svg: str
    legend: list[tuple[str, str]]  # colour, name
    last: list[tuple[str, str]]  # name, its value at the end or at the chosen place


# Curves that share a chart; every other one has its own.
_TOGETHER = {
    "scores": ("nmi", "ari", "acc"),
    "thresholds": ("upper", "lower", "lambda"),
    "shares of label features' entries": (
        "entries_0_to_0.1", "entries_0.1_to_0.5", "entries_0.5_to_0.9", "entries_0.9_to_1",
    ),
    "share of the largest cluster, entropy of all": ("largest_share", "assignment_entropy"),
}  # fmt: skip
_NOT_CURVES = {"step", "epoch", "phase", "nmi_arithmetic"}
# Numbers that mean something different in every phase.
_BY_PHASE = ("loss", "gradient_norm", "update_norm")


def charts(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """What metrics.jsonl holds, one chart for each number or group of them."""
    series = _series(rows)
    begins: dict[str, float] = {}
    for row in rows:
        begins.setdefault(row.get("phase", ""), row["step"])
    marks = sorted(begins.values())[1:]
    panels = []
    for title, names in _grouped(series).items():
        # A single point is not a curve.
        lines = {name: series[name] for name in names if len(series[name].x) > 1}
        if lines:
            panels.append(_panel(title.replace("_", " "), lines, marks))
    return panels


class Count(NamedTuple):
    """How the number of clusters was chosen."""

    chosen: int
    next_best: int | None
    hdbscan: int
    place: str  # where the silhouette decided: "map", "features" or "map and features"
    panels: list[Panel]


def count(found: Mapping[str, Any] | None) -> Count | None:
    """The curve over numbers of clusters that config.json holds; None if the number was given."""
    if found is None:
        return None
    curve = Curve(**found)
    across, marks = curve.counts, [curve.chosen]
    at = across.index(curve.chosen)
    panels = [
        _panel(title, {name: Line(across, found[name]) for name in names}, marks, "clusters", at)
        for title, names in (
            ("silhouette in the map, stability", ("silhouette", "stability")),
            ("silhouette in the features", ("feature_silhouette",)),
            ("BIC", ("bic",)),
        )
        if all(found.get(name) for name in names)
    ]
    return Count(curve.chosen, curve.next_best, curve.hdbscan, curve.place(), panels)


def _series(rows: Sequence[Mapping[str, Any]]) -> dict[str, Line]:
    """The finite values of every number, by its name; losses separately by phase."""
    phases = {row.get("phase", "") for row in rows if "loss" in row}
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name in _NOT_CURVES or not isinstance(value, int | float):
                continue
            if name in _BY_PHASE and len(phases) > 1:
                name = f"{name}, {row['phase']}"
            # Runs of earlier versions may hold others.
            if math.isfinite(value):
                xs, ys = series.setdefault(name, ([], []))
                xs.append(row["step"])
                ys.append(value)
    return {name: Line(xs, ys) for name, (xs, ys) in series.items()}


def _grouped(series: Mapping[str, Line]) -> dict[str, list[str]]:
    """Charts in the page's order: losses, what shares a chart, the rest; names by title."""
    groups = {
        title: [name for name in names if name in series] for title, names in _TOGETHER.items()
    }
    grouped = {name for names in groups.values() for name in names}
    first = [name for name in series if name.split(",")[0].endswith("loss")]
    rest = [name for name in series if name not in grouped and name not in first]
    return {name: [name] for name in first} | groups | {name: [name] for name in rest}


def _panel(
    title: str,
    lines: Mapping[str, Line],
    marks: Sequence[float],
    x_title: str = "steps",
    at: int = -1,
) -> Panel:
    """A chart with its values at one place, the last by default, shown below it."""
    return Panel(
        title,
        line_chart(lines, marks, title, x_title),
        [(COLOURS[i % len(COLOURS)], name) for i, name in enumerate(lines)],
        [(name, f"{line.y[at]:.4g}") for name, line in lines.items()],
    )
