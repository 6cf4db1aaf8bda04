"""What the papers report, to compare with a run's own scores. All in percent."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Published(NamedTuple):
    """A published result; None where the paper gives no figure."""

    nmi: float | None
    acc: float | None
    ari: float | None
    source: str


_CHANG = "Chang et al. 2017, Table 2"
_DAS = "Das et al. 2019, Table 1"
_YAN = "Yan et al. 2020, Tables III and IV"
# The paper has an earlier version of Places.
_PLACES = {"places_val": ", Places2 of 18,250", "places_train": ", Places2 of 1.6 M"}


def _das(dataset: str) -> str:
    """The source of a figure of ICS's: of CIFAR-100 it has the training images alone."""
    return _DAS + (", 50,000 images" if dataset == "cifar100" else "")


def _hsu(start: str, dataset: str) -> str:
    """The source of a figure of CCNN's: its first network stands beside it."""
    return f"Hsu & Lin 2017, Table II, {start}{_PLACES.get(dataset, '')}"


_CHANG_SETS = ("mnist", "cifar10", "cifar100_coarse", "stl10", "imagenet10", "imagenet_dog")
# NMI, ARI and ACC on each of these sets.
_CHANG_ROWS = {
    "kmeans": (
        (49.97, 36.52, 57.23), (8.71, 4.87, 22.89), (8.39, 2.80, 12.97),
        (12.45, 6.08, 19.20), (11.86, 5.71, 24.09), (5.48, 2.04, 10.54),
    ),
    "spectral": (
        (66.26, 52.14, 69.58), (10.28, 8.53, 24.67), (9.01, 2.18, 13.60),
        (9.78, 4.79, 15.88), (15.11, 7.57, 27.40), (3.83, 1.33, 11.11),
    ),
    "agglomerative": (
        (60.94, 48.07, 69.53), (10.46, 6.46, 22.75), (9.79, 3.44, 13.78),
        (23.86, 14.02, 33.22), (13.83, 6.74, 24.20), (3.68, 2.07, 13.85),
    ),
    "graph_nmf": (
        (60.82, 42.98, 54.47), (8.14, 3.38, 18.95), (7.91, 2.63, 11.75),
        (9.62, 4.58, 18.04), (13.16, 6.52, 23.02), (4.42, 1.55, 11.84),
    ),
    "ae_kmeans": (
        (72.57, 61.39, 81.23), (23.93, 16.89, 31.35), (10.04, 4.76, 16.45),
        (24.96, 16.10, 30.30), (20.99, 15.16, 31.70), (10.39, 7.28, 18.51),
    ),
    "denoising_ae_kmeans": (
        (75.63, 64.67, 83.16), (25.06, 16.27, 29.71), (11.05, 4.60, 15.05),
        (22.42, 15.19, 30.22), (20.64, 13.76, 30.44), (10.43, 7.79, 19.03),
    ),
    "sae_kmeans": (
        (75.7, 63.9, 82.7), (24.7, 15.6, 29.7), (10.9, 4.4, 15.7),
        (25.2, 16.1, 32.0), (21.2, 17.4, 32.5), (11.3, 7.3, 18.3),
    ),
    "decnn_kmeans": (
        (75.8, 66.9, 81.8), (24.0, 17.4, 28.2), (9.2, 3.8, 13.3),
        (22.7, 16.2, 29.9), (18.6, 14.2, 31.3), (9.8, 7.3, 17.5),
    ),
    "gan_kmeans": (
        (76.37, 73.60, 82.79), (26.46, 17.57, 31.52), (12.00, 4.53, 15.10),
        (21.00, 13.90, 29.84), (22.50, 15.71, 34.59), (12.13, 7.76, 17.38),
    ),
    "swwae_kmeans": (
        (73.6, 65.2, 82.5), (23.3, 16.4, 28.4), (10.3, 3.9, 14.7),
        (19.6, 13.6, 27.0), (17.6, 16.0, 32.4), (9.4, 7.6, 15.9),
    ),
    "vae_kmeans": (
        (73.64, 71.29, 83.17), (24.51, 16.74, 29.08), (10.79, 4.03, 15.17),
        (20.04, 14.64, 28.15), (19.34, 16.83, 33.44), (10.74, 7.86, 17.88),
    ),
    "dec": (
        (77.16, 74.14, 84.30), (25.68, 16.07, 30.10), (13.58, 4.95, 18.52),
        (27.60, 18.61, 35.90), (28.19, 20.31, 38.09), (12.16, 7.88, 19.49),
    ),
    "dac_star": (
        (92.46, 94.06, 96.60), (37.93, 28.02, 49.82), (16.23, 7.76, 21.89),
        (34.74, 23.51, 43.37), (36.93, 28.37, 50.26), (18.15, 9.53, 24.55),
    ),
    "dac": (
        (93.51, 94.86, 97.75), (39.59, 30.59, 52.18), (18.52, 8.76, 23.75),
        (36.56, 25.65, 46.99), (39.44, 30.19, 52.72), (21.85, 11.05, 27.48),
    ),
}  # fmt: skip

_DBSCAN = {"ytf": ", by DBSCAN"}
_YAN_SETS = ("mnist", "mnist_test", "usps", "cmu_pie", "frgc", "ytf")
# ACC and NMI on each of these sets.
_YAN_ROWS = {
    "derc": ((97.5, 92.7), (97.2, 92.3), (97.7, 94.2), (97.9, 99.6), (51.3, 66.7)),
    "derc_r": ((95.6, 91.4), (94.9, 90.7), (96.2, 92.3), (83.7, 94.3), (49.1, 65.2), (65.8, 90.7)),
    "ac_pic": ((11.5, 1.7), (92.0, 85.3), (85.5, 84.0), (79.7, 90.2)),
    "depict": ((96.5, 91.7), (96.3, 91.5), (96.4, 92.7), (88.3, 97.4)),
    "jule": ((96.1, 91.1), (96.0, 91.1), (95.0, 91.0)),
    "sec": ((80.4, 77.9), (81.5, 79.0), (54.4, 51.1)),
    "dae": ((82.4, 78.9), (80.5, 77.5), (72.4, 75.8), (48.1, 73.8), (40.9, 54.5), (68.0, 90.2)),
}

_DAS_ROWS = {
    "mnist": 98.93, "usps": 97.63, "cifar10_train": 44.19, "cifar100": 25.4, "frgc": 47.28,
}  # fmt: skip

# NMI on ILSVRC-Val, Places-Val and, where given, Places-Train, from a pre-trained AlexNet.
_HSU_ROWS = {
    "ccnn": {"ilsvrc_val": 37.5, "places_val": 30.7, "places_train": 18.7},
    "ccnn_baseline1": {"ilsvrc_val": 18.1, "places_val": 15.3, "places_train": 4.7},
    "ccnn_baseline2": {"ilsvrc_val": 23.1, "places_val": 17.7, "places_train": 4.5},
    "ccnn_baseline3": {"ilsvrc_val": 29.3, "places_val": 20.1},
}

# (method, data set) -> the figure. USPS in these papers has 11,000 images, here 9,298.
PUBLISHED: dict[tuple[str, str], Published] = {
    **{
        (method, dataset): Published(nmi, acc, ari, _CHANG)
        for method, rows in _CHANG_ROWS.items()
        for dataset, (nmi, ari, acc) in zip(_CHANG_SETS, rows, strict=True)
    },
    **{
        (method, dataset): Published(nmi, acc, None, _YAN + _DBSCAN.get(dataset, ""))
        for method, rows in _YAN_ROWS.items()
        for dataset, (acc, nmi) in zip(_YAN_SETS, rows, strict=False)
    },
    **{
        ("dec", dataset): Published(nmi, acc, None, _YAN)
        for dataset, acc, nmi in (
            ("mnist_test", 85.9, 82.7), ("usps", 61.9, 58.6), ("cmu_pie", 80.1, 92.4),
            ("frgc", 37.8, 50.5), ("ytf", 37.1, 44.6),
        )
    },
    # The table of faces names the variant that clusters anew.
    ("jule_rc", "cmu_pie"): Published(100.0, 100.0, None, _YAN),
    ("jule_rc", "frgc"): Published(57.4, 46.1, None, _YAN),
    ("jule_rc", "ytf"): Published(84.8, 68.4, None, _YAN),
    ("dbc", "mnist"): Published(91.7, 96.4, None, _YAN),
    # DBC's own paper is quoted elsewhere with these two exchanged.
    ("dbc", "usps"): Published(74.3, 72.4, None, _YAN),
    **{
        ("kmeans", dataset): Published(nmi, acc, None, _YAN)
        for dataset, acc, nmi in (
            ("frgc", 24.3, 28.7), ("ytf", 60.1, 77.6), ("cmu_pie", 22.3, 43.2),
            ("mnist_test", 54.7, 50.1), ("usps", 46.0, 45.0),
        )
    },
    **{
        ("kmeans", dataset): Published(None, acc, None, _das(dataset))
        for dataset, acc in (("cifar10_train", 20.4), ("cifar100", 16.5))
    },
    ("imsat", "mnist"): Published(None, 98.4, None, _DAS),
    ("vade", "mnist"): Published(None, 94.46, None, _DAS),
    **{
        ("ics", dataset): Published(None, acc, None, _das(dataset))
        for dataset, acc in _DAS_ROWS.items()
    },
    **{
        ("ccnn", dataset): Published(nmi, None, None, _hsu("from a random network", dataset))
        for dataset, nmi in (("ilsvrc_val", 31.4), ("places_val", 21.9), ("places_train", 16.6))
    },
    # The published code feeds true labels as pseudo-labels.
    **{
        ("ccnn", dataset): Published(nmi, None, None, "Hsu & Lin 2017, Table IV, on leaked labels")
        for dataset, nmi in (("mnist_test", 91.6), ("mnist_train", 87.6))
    },
}  # fmt: skip

# The same for CCNN and its baselines from pre-trained weights.
PRETRAINED: dict[tuple[str, str], Published] = {
    (method, dataset): Published(nmi, None, None, _hsu("from a pre-trained AlexNet", dataset))
    for method, rows in _HSU_ROWS.items()
    for dataset, nmi in rows.items()
}

# With these, a run uses different data from the paper's, or begins from another run's weights.
OTHER_RUN = ("n_clusters", "limit", "imbalance", "encoder", "pretrained")


def published_beside(method: str, dataset: str, settings: Mapping[str, Any]) -> Published | None:
    """The paper's figure that a run with these settings can be compared with, if any."""
    if any(settings.get(name) is not None for name in OTHER_RUN):
        return None
    # Then it is the paper's Baseline-I, under CCNN's name.
    if method == "ccnn" and settings.get("compensation") == "none":
        return None
    if settings.get("init") not in {None, "random", "autoencoder"}:
        return PRETRAINED.get((method, dataset))
    return PUBLISHED.get((method, dataset))
