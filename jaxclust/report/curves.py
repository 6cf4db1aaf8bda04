"""What metrics.jsonl holds, as charts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxclust.report.chart import Line, line_chart
from jaxclust.report.colours import COLOURS


class Panel(NamedTuple):
    """A chart with its legend."""

    title: str
    svg: str
    legend: list[tuple[str, str]]  # colour, name
    last: list[tuple[str, str]]  # name, last value


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
# Numbers that mean another thing in every phase.
_BY_PHASE = ("loss", "gradient_norm", "update_norm")


def charts(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """What metrics.jsonl holds, one chart for each number or group of them."""
    phases = {row.get("phase", "") for row in rows if "loss" in row}
    series: dict[str, tuple[list[float], list[float]]] = {}
    begins: dict[str, float] = {}
    for row in rows:
        begins.setdefault(row.get("phase", ""), row["step"])
        for name, value in row.items():
            if name in _NOT_CURVES or not isinstance(value, int | float):
                continue
            if name in _BY_PHASE and len(phases) > 1:
                name = f"{name}, {row['phase']}"
            # JSON has no infinities, but Python writes and reads them.
            if math.isfinite(value):
                xs, ys = series.setdefault(name, ([], []))
                xs.append(row["step"])
                ys.append(value)
    groups = {
        title: [name for name in names if name in series] for title, names in _TOGETHER.items()
    }
    grouped = {name for names in groups.values() for name in names}
    first = [name for name in series if name.split(",")[0].endswith("loss")]
    rest = [name for name in series if name not in grouped and name not in first]
    ordered = {name: [name] for name in first} | groups | {name: [name] for name in rest}
    panels = []
    marks = sorted(begins.values())[1:]
    for title, names in ordered.items():
        # A point is no curve.
        names = [name for name in names if len(series[name][0]) > 1]
        if not names:
            continue
        lines = {name: Line(*series[name]) for name in names}
        title = title.replace("_", " ")
        panels.append(
            Panel(
                title,
                line_chart(lines, marks, title),
                [(COLOURS[i % len(COLOURS)], name) for i, name in enumerate(names)],
                [(name, f"{line.y[-1]:.4g}") for name, line in lines.items()],
            )
        )
    return panels
