"""DEC, IDEC, DCN and VaDE by ClustPy, on the same images and for as long as ours.

    python -m experiments.tables.beside_clustpy --data-dir DATA_DIR [--datasets usps …]

ClustPy's defaults (Adam at 1e-3 and 1e-4, dense network 500-500-2000-10), except for the epochs of
pre-training and clustering, which are those of our presets (DEC's, IDEC's and DCN's `paper`, which
train on plain images as ClustPy does). Images are normalised as ours are; for VaDE they are scaled
to 0 to 1, since its decoder is a Bernoulli one. Its scores and seconds stand beside ours from
autoencoders.json, with the same data and seeds.

ClustPy has two answers: the method's own, as `dec_labels_`, and `labels_`, for which it clusters
the latents once more. The first is compared with ours; the second stands beside it.

Needs ClustPy (pip install -e '.[bench]'). Time on two CPU cores: digits 20 seconds a run, USPS and
MNIST-test 2 minutes. Results: beside_clustpy.md and .json in experiments/results/.
"""

import argparse
import contextlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.tables import autoencoders
from experiments.tables.grid import RESULTS, Row, Table, merge, recorded
from jaxclust import metrics
from jaxclust.data import catalogue
from jaxclust.images.normalisation import measure, normalise
from jaxclust.methods import registry
from jaxclust.report.comparison import spread

TITLES = {"dec": "DEC", "idec": "IDEC", "dcn": "DCN", "vade": "VaDE"}
METHODS = tuple(TITLES)
DATASETS = ("digits", "usps", "mnist_test")
# Its rows are not made by `jaxclust run`, so only the name is needed.
TABLE = Table("beside_clustpy", "DEC, IDEC, DCN and VaDE beside ClustPy", ())


class Found(NamedTuple):
    """What ClustPy finds: labels int [n] of normalised images."""

    own: np.ndarray  # the method's, as `dec_labels_`
    anew: np.ndarray  # `labels_`: of its latents, clustered once more


def fit(method: str, images: np.ndarray, k: int, seed: int) -> Found:
    """Fit ClustPy's method with our numbers of epochs and its own rates."""
    try:
        from clustpy.deep import DCN, DEC, IDEC, VaDE
    except ImportError:
        raise SystemExit("this needs ClustPy: pip install -e '.[bench]'") from None
    kind: Any = {"dec": DEC, "idec": IDEC, "dcn": DCN, "vade": VaDE}[method]
    ours = registry.find(method).config("best" if method == "vade" else "paper")
    estimator = kind(
        k,
        pretrain_epochs=ours.pretrain_epochs,
        clustering_epochs=ours.epochs,
        random_state=seed,
    )
    with contextlib.redirect_stdout(sys.stderr):  # its progress bar
        fitted = estimator.fit(images.reshape(len(images), -1))
    name = "dec" if method == "idec" else method
    return Found(np.asarray(getattr(fitted, f"{name}_labels_")), np.asarray(fitted.labels_))


def one(method: str, dataset: str, seed: int, data_dir: Path) -> Row:
    """A row of one seed."""
    found = catalogue.load(dataset, data_dir)
    assert isinstance(found.images, np.ndarray)
    assert found.labels is not None
    assert found.n_classes is not None
    images = np.asarray(normalise(jnp.asarray(found.images), measure(found.images)))
    if method == "vade":
        images = found.images.astype(np.float32) / 255
    begun = time.perf_counter()
    labels = fit(method, images, found.n_classes, seed)
    seconds = time.perf_counter() - begun
    scored = metrics.score(found.labels, labels.own)
    anew = metrics.score(found.labels, labels.anew)
    return {
        "name": f"{method}-{dataset}",
        "dataset": dataset,
        "title": f"{TITLES[method]}, ClustPy",
        "seeds": [seed],
        **{name: [scored[name]] for name in ("nmi", "acc", "ari")},
        **{f"{name}_anew": [anew[name]] for name in ("nmi", "acc")},
        "seconds": [round(seconds, 1)],
        "versions": {name: version(name) for name in ("clustpy", "torch", "scikit-learn")},
    }


def _measured(row: Row | None) -> set[int]:
    """Seeds with the method's own answer, which rows of earlier versions lack."""
    pairs = () if row is None else zip(row["seeds"], row["acc"], strict=True)
    return {seed for seed, acc in pairs if acc is not None}


def page(rows: dict[str, Row]) -> str:
    """ClustPy's scores beside ours."""
    ours = recorded(autoencoders.TABLE)
    columns = ["ACC", "NMI", "seeds", "seconds"]
    heads = [
        "data set",
        "method",
        "ClustPy, labels_: ACC",
        "labels_: NMI",
        *(f"{who} {what}" for who in ("ClustPy", "ours") for what in columns),
    ]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, row in rows.items():
        cells = [row["dataset"], TITLES[name.split("-")[0]]]
        method = name.split("-")[0]
        same = name if method == "vade" else name.replace(method, f"{method}_paper")
        cells += [spread(row["acc_anew"]), spread(row["nmi_anew"])]
        for side in (row, ours.get(same)):
            known = side is not None
            cells += [spread(side["acc"]), spread(side["nmi"])] if known else ["–", "–"]
            for listed in ("seeds", "seconds"):
                cells.append(", ".join(map(str, side[listed])) if known and listed in side else "–")
        lines.append(f"| {' | '.join(cells)} |")
    versions = ", ".join(f"{n} {v}" for n, v in next(iter(rows.values()))["versions"].items())
    return (
        f"# {TABLE.title}\n\nPercent, mean ± standard deviation over seeds. Written "
        f"by `python -m experiments.tables.{TABLE.name} --data-dir DATA_DIR` (CPU; {versions}); "
        "ours by `autoencoders.py`. Seconds are of two CPU cores, in part beside other work.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def main() -> int:
    """Run what is missing, then write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    rows = recorded(TABLE)
    for seed in options.seeds:
        for dataset in options.datasets:
            for method in options.methods:
                name = f"{method}-{dataset}"
                if seed in _measured(rows.get(name)):
                    continue
                place = options.data_dir or catalogue.default_data_dir()
                rows[name] = merge(rows.get(name), one(method, dataset, seed, place))
                RESULTS.mkdir(exist_ok=True)
                (RESULTS / f"{TABLE.name}.json").write_text(
                    json.dumps(list(rows.values()), indent=1) + "\n"
                )
                (RESULTS / f"{TABLE.name}.md").write_text(page(rows))
    print((RESULTS / f"{TABLE.name}.md").read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
