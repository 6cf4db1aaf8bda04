"""DAC against imbalance, sample count and cluster count: Figs. 5-7 of Chang et al. 2017.

    python -m experiments.tables.dac_sweeps --data-dir DATA_DIR [--datasets digits …]

Published, read off the figures: on MNIST, DAC stays above 90 % ACC from a minimum
retention rate of 0.1 up, k-means between 40 and 55 (Fig. 5), and gains little from
10,000 images to 60,000 (Fig. 7); on ImageNet every method falls from 10 clusters to 50
(Fig. 6).

Fig. 6 needs a folder of class folders, here Tiny-ImageNet's in place of ImageNet's, of which the
first 10, 20, … are used at 28 pixels: JAXCLUST_CLASS_FOLDERS=FOLDER.

Time on two CPU cores: digits two minutes a run, MNIST hours. Results: dac_sweeps.md and
.json, dac_imbalance-SET.png and dac_samples-SET.png in experiments/results/; how a table
is run: grid.py.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.figures import figures
from experiments.tables.class_folders import linked_classes
from experiments.tables.grid import RESULTS, Cell, Row, Table, main, recorded

METHODS = {"dac": "DAC", "kmeans": "k-means"}
RETENTION = (0.1, 0.3, 0.5, 0.7, 0.9)
SAMPLES = {
    "digits": (300, 600, 1000, 1400, 1797),
    "mnist": (10_000, 20_000, 30_000, 40_000, 50_000, 60_000),
    "cifar10": (10_000, 20_000, 30_000, 40_000, 50_000, 60_000),
}
CLUSTERS = (10, 20, 30, 40, 50)


def cell(
    method: str,
    dataset: str,
    kind: str,
    value: float,
    options: Sequence[str],
    name: str | None = None,
) -> Cell:
    """One point of a curve; its name ends in its value on the x axis."""
    preset = ["--preset=reference_cifar10"] if (method, dataset) == ("dac", "cifar10") else []
    title = f"{METHODS[method]}, {kind} {value:g}"
    given = [f"--method={method}", *preset, *options]
    return Cell(f"{kind}-{method}-{name or dataset}-{value:g}", title, dataset, given)


def class_cells(source: Path, links: Path) -> list[Cell]:
    """Fig. 6's cells, each on a folder of links to the first classes of `source`."""
    listed = []
    for count in CLUSTERS:
        target = linked_classes(source, links / f"classes-{count}", count)
        options = ["--image-size=28", "--labels-from-folders", f"--n-clusters={count}"]
        listed += [
            cell(method, f"folder:{target}", "clusters", count, options, "classes")
            for method in METHODS
        ]
    return listed


def points(rows: Sequence[Row], kind: str, dataset: str) -> dict[str, dict[float, list[float]]]:
    """method -> place -> ACC of every seed, of one figure."""
    series: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        found, method, of, value = row["name"].split("-")
        if (found, of) == (kind, dataset):
            series.setdefault(METHODS[method], {})[float(value)] = row["acc"]
    return series


def draw(rows: Sequence[Row]) -> None:
    """A picture of every figure that has points."""
    for dataset in (*SAMPLES, "classes"):
        for kind, name, x in (
            ("retention", "imbalance", "minimum retention rate"),
            ("samples", "samples", "images"),
            ("clusters", "clusters", "clusters"),
        ):
            if series := points(rows, kind, dataset):
                path = RESULTS / f"dac_{name}-{dataset}.png"
                figures.curves(path, series, x=x, y="ACC in percent", title=dataset)


CELLS = [
    *(
        cell(method, dataset, "retention", rate, [f"--imbalance={rate:g}"])
        for dataset in ("digits", "mnist")
        for rate in RETENTION
        for method in METHODS
    ),
    *(
        cell(method, dataset, "samples", count, [f"--limit={count}"])
        for dataset, counts in SAMPLES.items()
        for count in counts
        for method in METHODS
    ),
]

if __name__ == "__main__":
    source = os.environ.get("JAXCLUST_CLASS_FOLDERS")
    more = class_cells(Path(source), Path("runs/dac_sweeps-classes")) if source else []
    title = "DAC against imbalance, sample count and cluster count"
    table = Table("dac_sweeps", title, [*CELLS, *more])
    status = main(table, __doc__ or "")
    draw(list(recorded(table).values()))
    sys.exit(status)
