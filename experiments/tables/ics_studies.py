"""ICS's other experiments: Table 2, Figs. 4-6 of Das et al. 2019.

    python -m experiments.tables.ics_studies --data-dir DATA_DIR [--datasets usps …]

Published (ACC, MNIST), Table 2: minimum retention rate 0.1 / 0.3 / 0.5 / 0.7 / 0.9 gives
88.02 / 94.5 / 96.12 / 97.2 / 97.91. Fig. 5: the triplet's term has a significant
influence. Fig. 6: 100 settings drawn at random; here one weight moves at a time from the
preset's. Fig. 4, assignments of one class with and without the entropy: its two runs are
the ablation's, their mean certainty is in the rows (`certainty`). All cluster the images as
they are, as the paper does, where the preset clusters views of them, and pre-train for 50
epochs. The rest is the preset's: pre-training on views, an error averaged over pixels, latents
of 10 values, gamma 0.1 and omega 1. The paper has plain images, three epochs, a sum over
pixels, 64 values, 0.01 and 0.1 on MNIST. `acc_after_5` is ACC after the fifth epoch, so that
runs that were stopped early can be compared.

Time on two CPU cores: digits half a minute a run, USPS 2 to 6, MNIST-test 30. Larger sets:
`jaxclust run --method=ics --dataset=mnist --imbalance=…` and `--preset=deep
--dataset=cifar10`. Results: ics_studies.md and .json in experiments/results/; how a table is
run: grid.py.
"""

import sys
from pathlib import Path

import numpy as np

from experiments.tables.grid import Cell, Row, Table, logged, main

# What views and more pre-training add must not hide what the terms do.
METHOD = ["--method=ics", "--no-cluster-augmented", "--pretrain-epochs=50"]
# The epoch after which runs of any length are compared.
EARLY = 5
RETENTION = (0.1, 0.3, 0.5, 0.7, 0.9)
# Fig. 5: which of L_c, L_b and L_t are left out.
ABLATIONS = {
    "all": ("all terms", []),
    "no_entropy": ("without L_b", ["--entropy-weight=0"]),
    "no_triplet": ("without L_t", ["--triplet-weight=0"]),
    "no_both": ("without L_b and L_t", ["--entropy-weight=0", "--triplet-weight=0"]),
    "no_clustering": ("without L_c", ["--clustering-weight=0"]),
}
# Fig. 6: beta, gamma and omega.
SWEEPS = {
    "clustering": (0.2, 0.5, 1.0),
    "entropy": (0.01, 0.5, 1.0),
    "triplet": (0.1, 0.5, 2.0),
}


def cells(dataset: str) -> list[Cell]:
    """The kinds of run on a data set."""
    whole = f"all-{dataset}"
    listed = [
        Cell(f"{name}-{dataset}", title, dataset, [*METHOD, *options], whole)
        for name, (title, options) in ABLATIONS.items()
    ]
    listed += [
        Cell(
            f"retention{rate:g}-{dataset}",
            f"retention from {rate:g}",
            dataset,
            [*METHOD, f"--imbalance={rate:g}"],
        )
        for rate in RETENTION
    ]
    listed += [
        Cell(
            f"{term}{weight:g}-{dataset}",
            f"{term} weight {weight:g}",
            dataset,
            [*METHOD, f"--{term}-weight={weight:g}"],
            whole,
        )
        for term, weights in SWEEPS.items()
        for weight in weights
    ]
    return listed


def more_figures(row: Row, folders: list[Path]) -> list[Row]:
    """Add each run's mean probability of the cluster an image is given, and early scores.

    Runs that are not finished are compared after the same epoch.
    """
    row["certainty"] = []
    early = [[one for one in logged(folder) if one["epoch"] == EARLY] for folder in folders]
    row[f"acc_after_{EARLY}"] = [100 * found[0]["acc"] if found else None for found in early]
    for folder in folders:
        path = folder / "embeddings.npz"
        if path.is_file():
            with np.load(path) as arrays:
                row["certainty"].append(float(arrays["probabilities"].max(axis=1).mean()))
        else:
            row["certainty"].append(None)
    return []


TABLE = Table(
    "ics_studies",
    "ICS: imbalance, ablation, weights",
    [cell for dataset in ("digits", "usps", "mnist_test") for cell in cells(dataset)],
    derive=more_figures,
    columns=["certainty", f"acc_after_{EARLY}"],
)

if __name__ == "__main__":
    sys.exit(main(TABLE, __doc__ or ""))
