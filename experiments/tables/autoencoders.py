"""ICS, DERC and what they are compared with, on small images.

    python -m experiments.tables.autoencoders --data-dir DATA_DIR [--datasets usps …]

Published (ACC / NMI). ICS (Das et al. 2019, Table 1): USPS 97.63 (an 11,000-image version;
here the one of 9,298), MNIST 98.93. DERC (Yan et al. 2020, Tables III and IV; also with
11,000 images of USPS): MNIST-test DERC 97.2 / 92.3, DERC-R 94.9 / 90.7, DAE 80.5 / 77.5, DEC
85.9 / 82.7; USPS 97.7 / 94.2, 96.2 / 92.3, 72.4 / 75.8, 61.9 / 58.6; CMU-PIE 97.9 / 99.6,
83.7 / 94.3, 48.1 / 73.8, 80.1 / 92.4; MNIST DERC 97.5 / 92.7, DERC-R 95.6 / 91.4, DAE 82.4 /
78.9.

Time on two CPU cores: digits 1 to 3 minutes a run, USPS and MNIST-test 5 to 40, CMU-PIE 5, MNIST's
70,000 half an hour, with fewer epochs. With a GPU, run those, and what is not listed, in full:
`jaxclust run --method=derc --dataset=mnist`, `--method=ics --dataset=mnist`,
`--method=ics --preset=deep --dataset=cifar10`.
Results: autoencoders.md and .json in experiments/results/; how a table is run: grid.py.
"""

import sys

from experiments.tables.grid import Cell, Table, main

METHODS = {
    "derc": "DERC",
    "derc_r": "DERC-R",
    "dae": "DAE",
    "ics": "ICS",
    "idec": "IDEC",
    "dec": "DEC",
    "idec_paper": "IDEC, paper",
    "dec_paper": "DEC, paper",
    "dcn_paper": "DCN, paper",
    "vade": "VaDE",
    "ae_kmeans": "autoencoder, k-means",
    "denoising_ae_kmeans": "denoising autoencoder, k-means",
    "vae_kmeans": "variational autoencoder, k-means",
}
# Whose pre-training a method shares; not DERC-R, which chooses between four of its own.
PRETRAINED = {"dae": "derc", "dec": "idec", "dec_paper": "idec_paper"}
SMALL = ("digits", "usps", "cmu_pie", "mnist_test")
# Rows run before preset best pre-trained on plain images, as preset paper does. With five rounds
# the settings are best's.
ROUNDS = ("five rounds", ["--preset=paper", "--iterations=5"])
PLAIN = ("plain images", ["--preset=paper"])
# The width of Sec. V.B; elsewhere it is the number of clusters.
FACES = ("latent of 128", ["--preset=paper", "--latent-width=128"])
# MNIST and CIFAR-10 have five to seven times the steps of the smaller sets in an epoch, and a
# CPU takes hours for the presets' epochs: eight of pre-training are some 2,000 steps.
PRETRAINING = "--pretrain-epochs=8"
# Of MNIST's rows, which were run when preset best had them in pre-training.
VIEWS = ["--rotation=15", "--shift=0.1", "--zoom=0.15", "--shear=0.2"]
# DERC has one start.
STARTS = ("four starts", [])
# A method's options on a set, after how its row describes them. The large sets have no others.
SETTINGS = {
    "digits": {"derc_r": STARTS},
    "usps": {"derc": ROUNDS, "derc_r": STARTS, "dae": PLAIN},
    "mnist_test": {"derc": ROUNDS, "derc_r": STARTS, "dae": PLAIN},
    "cmu_pie": {
        "derc": ("latent of 128, five rounds", [*FACES[1], "--iterations=5"]),
        "derc_r": FACES,
        "dae": FACES,
    },
    "mnist": {
        "derc": (
            "views, one round of 3 epochs",
            [*VIEWS, PRETRAINING, "--epochs=3", "--iterations=1"],
        ),
        "derc_r": ("views, 8 epochs", [*VIEWS, PRETRAINING]),
        "dae": ("views, 8 epochs", ["--pretrain-augmented", PRETRAINING]),
        "ics": ("3 epochs", [PRETRAINING, "--epochs=3"]),
        "idec_paper": ("10 epochs", [PRETRAINING, "--epochs=10"]),
        "dec_paper": ("10 epochs", [PRETRAINING, "--epochs=10"]),
        # As many steps as the presets' 50 and 100 epochs are on USPS, and a half more.
        "vade": ("20 epochs", ["--pretrain-epochs=10", "--epochs=20"]),
    },
    "cifar10": {
        # Its own pre-training is of three.
        "ics": ("preset deep, 3 epochs", ["--preset=deep", "--epochs=3"]),
        "idec_paper": ("10 epochs", [PRETRAINING, "--epochs=10"]),
        "dec_paper": ("10 epochs", [PRETRAINING, "--epochs=10"]),
    },
}


def cells(dataset: str) -> list[Cell]:
    """The kinds of run on a data set."""
    settings = SETTINGS.get(dataset, {})
    listed = []
    for method in METHODS if dataset in SMALL else settings:
        what, options = settings.get(method, ("", []))
        source, name = PRETRAINED.get(method), method.removesuffix("_paper")
        if method.endswith("_paper"):
            options = ["--preset=paper", *options]
        listed.append(
            Cell(
                f"{method}-{dataset}",
                f"{METHODS[method]}, {what}" if what else METHODS[method],
                dataset,
                [f"--method={name}", *options],
                f"{source}-{dataset}" if source else None,
            )
        )
    return listed


TABLE = Table(
    "autoencoders",
    "ICS, DERC and their relatives on small images",
    [cell for name in (*SMALL, "mnist", "cifar10") for cell in cells(name)],
)

if __name__ == "__main__":
    sys.exit(main(TABLE, __doc__ or ""))
