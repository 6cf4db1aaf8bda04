"""The systems that the four papers compare with, on small images.

    python -m experiments.tables.compared --data-dir DATA_DIR [--datasets cmu_pie …]

Printed (ACC / NMI; USPS there is a version of 11,000 images, here the one of 9,298). IMSAT (Hu et
al. 2017; Das et al. 2019, Table 1): MNIST 98.4. Of Yan et al. 2020, Tables III and IV, MNIST-test,
USPS, CMU-PIE: JULE 96.0 / 91.1, 95.0 / 91.0, and JULE-RC 100 / 100; DEPICT 96.3 / 91.5,
96.4 / 92.7, 88.3 / 97.4; AC-PIC 92.0 / 85.3, 85.5 / 84.0, 79.7 / 90.2; SEC 81.5 / 79.0,
54.4 / 51.1; DBC USPS 72.4 / 74.3. NMF along the graph (Chang et al. 2017, Table 2): MNIST
54.5 / 60.8, sparse, deconvolutional and what-where autoencoders 82.7 / 75.7, 81.8 / 75.8,
82.5 / 73.6. VaDE stands in autoencoders.md.

Time of a seed on one CPU core: AC-PIC, SEC and NMF up to two minutes, CNN-CM three, the GAN seconds
on the digits and 17 minutes on CMU-PIE and MNIST-test, the sparse autoencoder seconds, the
what-where one up to two minutes on digits and USPS, DeCNN up to ten on USPS, IMSAT four to seven
minutes, on MNIST's 70,000 up to 50, DEPICT eight on the digits, 25 on USPS and 100 on CMU-PIE, DBC
seven on the digits and 35 on USPS, JULE seconds on the digits, three minutes on USPS and up to
twenty elsewhere. Quick systems have twenty seeds, the others three, including AC-PIC, though it
draws nothing. Results: compared.md and .json in experiments/results/; how a table is run: grid.py.
"""

import sys
from collections.abc import Sequence

from experiments.tables.grid import Cell, Table, main

METHODS = {
    "jule": "JULE",
    "jule_rc": "JULE-RC",
    "imsat": "IMSAT",
    "ac_pic": "AC-PIC",
    "depict": "DEPICT",
    "dbc": "DBC",
    "sec": "SEC",
    "graph_nmf": "NMF along the neighbour graph",
    "sae_kmeans": "sparse autoencoder, k-means",
    "decnn_kmeans": "strided convolutions, k-means",
    "swwae_kmeans": "what-where autoencoder, k-means",
    "gan_kmeans": "GAN, k-means on the discriminator",
    "cnn_cm": "CNN-CM",
}
# Where a seed takes under two minutes on two CPU cores, there are twenty of them; AC-PIC's are all
# the same.
QUICK = {
    "digits": {
        "jule", "jule_rc", "sec", "graph_nmf", "sae_kmeans", "decnn_kmeans",
        "swwae_kmeans", "gan_kmeans", "cnn_cm",
    },
    "usps": {"sec", "graph_nmf", "sae_kmeans", "swwae_kmeans", "gan_kmeans", "cnn_cm"},
    "cmu_pie": {"sec", "graph_nmf", "sae_kmeans"},
    "mnist_test": {"sec", "graph_nmf", "sae_kmeans"},
}  # fmt: skip
FACES = {name: ["--preset=faces"] for name in ("jule", "jule_rc", "depict")}
SMALL = ("digits", "usps", "cmu_pie", "mnist_test")
LARGE = {"mnist": ("imsat",)}


def _seeds(method: str, dataset: str) -> Sequence[int] | None:
    return range(20) if method in QUICK.get(dataset, ()) else None


def cells(dataset: str) -> list[Cell]:
    """Every system on a data set."""
    methods = LARGE.get(dataset, METHODS)
    options = FACES if dataset == "cmu_pie" else {}
    return [
        Cell(
            f"{method}-{dataset}",
            METHODS[method] + (", faces" if method in options else ""),
            dataset,
            [f"--method={method}", *options.get(method, [])],
            seeds=_seeds(method, dataset),
        )
        for method in methods
    ]


TABLE = Table(
    "compared",
    "Systems that the papers compare with",
    [cell for name in (*SMALL, *LARGE) for cell in cells(name)],
)

if __name__ == "__main__":
    sys.exit(main(TABLE, __doc__ or ""))
