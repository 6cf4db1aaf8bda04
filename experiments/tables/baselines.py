"""Classical baselines on pixels, which every deep method must beat.

    python -m experiments.tables.baselines --data-dir DATA_DIR [--datasets usps …]

Expected (NMI / ACC, k-means): USPS 61.4 / 67.3, CMU-PIE 42.6 / 21.8, MNIST-test
50.0 / 54.2. Chang et al. 2017, Table 2, give for MNIST (70,000 images) k-means
49.97 / 57.23, spectral 66.26 / 69.58, agglomerative 60.94 / 69.53, NMF 60.82 / 54.47.

Time on two CPU cores: seconds to two minutes a run. Results: baselines.md and .json
in experiments/results/; how a table is run: grid.py.
"""

import sys

from experiments.tables.grid import Cell, Table, main

METHODS = {
    "kmeans": "k-means",
    "minibatch_kmeans": "mini-batch k-means",
    "gmm": "Gaussian mixture on 50 components",
    "spectral": "spectral",
    "agglomerative": "agglomerative",
    "nmf": "NMF",
}

TABLE = Table(
    "baselines",
    "Classical baselines on pixels",
    [
        Cell(f"{method}-{dataset}", title, dataset, [f"--method={method}"])
        for dataset in ("digits", "usps", "cmu_pie", "mnist_test")
        for method, title in METHODS.items()
    ],
)

if __name__ == "__main__":
    sys.exit(main(TABLE, __doc__ or ""))
