"""CCNN on small images: Table IV of Hsu & Lin 2017 and two more sets.

    python -m experiments.tables.ccnn_small --data-dir DATA_DIR [--datasets digits …]

Published (NMI): MNIST-test 0.916, k-means 0.528. The published code feeds true
labels as pseudo-labels, so its figure is no unsupervised result; USPS and digits
are not in the paper. Target here: NMI 0.94 on MNIST-test, 0.93 on USPS.

Time on two CPU cores for one start: digits 15 seconds, USPS 5 minutes, MNIST-test 15; for the
four of preset best three times that. Results:
ccnn_small.md and .json in experiments/results/; how a table is run: grid.py.
"""

import sys
from pathlib import Path

from experiments.tables.grid import Cell, Row, Table, logged, main


def cells(dataset: str) -> list[Cell]:
    """The kinds of run on a data set."""
    listed = [Cell(f"kmeans-{dataset}", "k-means on pixels", dataset, ["--method=kmeans"])]
    for preset in ("best", "paper"):
        for compensation, suffix in (("rollback", ""), ("none", ", no compensation")):
            options = ["--method=ccnn", f"--preset={preset}", f"--compensation={compensation}"]
            name = f"{preset}-{dataset}-{compensation}"
            listed.append(Cell(name, f"CCNN, {preset}{suffix}", dataset, options))
    single = ["--method=ccnn", "--starts=1"]
    listed.append(Cell(f"single-{dataset}", "CCNN, best, one start", dataset, single))
    return listed


def initial_features(row: Row, folders: list[Path]) -> list[Row]:
    """k-means' scores before training, which preset best logs as epoch 0."""
    if not row["name"].startswith("single"):
        return []
    first = {
        seed: scored[0]
        for seed, folder in zip(row["seeds"], folders, strict=True)
        if (scored := logged(folder)) and scored[0]["epoch"] == 0
    }
    if not first:
        return []
    return [
        {
            "name": f"initial-{row['dataset']}",
            "of": row["name"],
            "title": "k-means on best's initial features",
            "dataset": row["dataset"],
            "command": f"{row['command']} (its epoch 0 in metrics.jsonl)",
            "seeds": list(first),
            "nmi": [scores["nmi_centroid"] for scores in first.values()],
            "acc": [scores["acc_centroid"] for scores in first.values()],
        }
    ]


TABLE = Table(
    "ccnn_small",
    "CCNN on small images",
    [cell for dataset in ("digits", "usps", "mnist_test") for cell in cells(dataset)],
    derive=initial_features,
)

if __name__ == "__main__":
    sys.exit(main(TABLE, __doc__ or ""))
