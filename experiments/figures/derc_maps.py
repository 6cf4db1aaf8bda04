"""Latents before and after retraining: Figs. 1, 3 and 6-8 of Yan et al. 2020.

    python -m experiments.figures.derc_maps BEFORE_RUN AFTER_RUN

Finished runs on a labelled set: of `derc_r --starts 1` or of few `--iterations`, and of `derc` with
the same seed and otherwise the same settings, which pre-trains to the same network. Each map is
the t-SNE map the run clustered.

Time: seconds. Result: derc_maps-SET.png in experiments/results/.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

from experiments.figures import figures
from experiments.tables.grid import RESULTS


def main() -> int:
    """Read both runs and draw their maps, coloured by class and by cluster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs=2)
    options = parser.parse_args()
    plt = figures.pyplot()
    figure, grid = plt.subplots(2, 2, figsize=(9, 9), layout="constrained")
    names = set()
    for column, (when, run) in enumerate(
        zip(("before retraining", "after"), options.runs, strict=True)
    ):
        if not (run / "summary.json").is_file():
            raise SystemExit(f"{run} is no finished run: it has no summary.json")
        summary = json.loads((run / "summary.json").read_text())
        names.add(summary["dataset"])
        with (run / "assignments.csv").open() as file:
            rows = list(csv.DictReader(file))
        with np.load(run / "embeddings.npz") as arrays:
            points = arrays["map"][:, :2]
        for row, kind in enumerate(("label", "cluster")):
            _, colours = np.unique([one[kind] for one in rows], return_inverse=True)
            axes = grid[row, column]
            axes.scatter(*points.T, s=2, c=colours % 20, cmap="tab20", linewidths=0)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"{when}, by {kind}; ACC {100 * summary['acc']:.1f}")
    if len(names) != 1:
        raise SystemExit(f"both runs must be of one data set, not of {' and '.join(names)}")
    [name] = names
    RESULTS.mkdir(exist_ok=True)
    figure.suptitle(f"t-SNE maps of latents, {name}")
    figure.savefig(RESULTS / f"derc_maps-{name}.png", dpi=100)
    plt.close(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
