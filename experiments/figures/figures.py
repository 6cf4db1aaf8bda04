"""Pictures of results: curves with their spread over seeds, shares over time."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxclust.report.colours import COLOURS


def pyplot() -> Any:
    """matplotlib without a display."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("pictures need matplotlib: pip install -e '.[report]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def curves(
    path: Path,
    series: Mapping[str, Mapping[float, Sequence[float]]],
    *,
    x: str,
    y: str,
    title: str,
) -> None:
    """A line a series: name -> place on the x axis -> values of the seeds, in percent."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
    for colour, (name, points) in zip(COLOURS, series.items(), strict=False):
        places = sorted(points)
        means = [100 * statistics.mean(points[place]) for place in places]
        spreads = [
            100 * statistics.stdev(points[place]) if len(points[place]) > 1 else 0.0
            for place in places
        ]
        axes.errorbar(places, means, spreads, label=name, color=colour, marker="o", capsize=3)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(alpha=0.3)
    # Below, where it hides no curve.
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def stacked(
    path: Path,
    places: Sequence[float],
    shares: Mapping[str, Sequence[float]],
    *,
    x: str,
    title: str,
) -> None:
    """Shares that sum to one, over the places on the x axis."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
    axes.stackplot(places, *shares.values(), labels=list(shares), colors=COLOURS[: len(shares)])
    axes.set(
        xlabel=x, ylabel="share of entries", title=title, ylim=(0, 1), xlim=(places[0], places[-1])
    )
    axes.legend(loc="lower right")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
