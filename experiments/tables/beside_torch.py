"""DAC by jaxclust and by a second reading of its paper in PyTorch, on the same images.

    python -m experiments.tables.beside_torch --data-dir DATA_DIR [--datasets mnist …]

Both train on the published schedule for MNIST, run --epochs of its epochs and are scored after
each; jaxclust uses preset `reference`. The two draw different random numbers, so that only means
over seeds are alike. The second reading is experiments/witnesses/dac.py, which imports nothing of
jaxclust; the log of the published code has ACC 95.6 after the first epoch of MNIST's 70,000 and
96.8 after the second.

Needs PyTorch (pip install -e '.[bench]'). Time on two CPU cores: a quarter of an hour per epoch for
each side on MNIST's 70,000, a seventh of that on its 10,000 test images. Results: beside_torch.md
and .json in experiments/results/.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxclust as jc
from experiments.tables.grid import RESULTS, Row, Table
from jaxclust import metrics
from jaxclust.data import catalogue
from jaxclust.methods import dac
from jaxclust.report.comparison import spread
from jaxclust.training.hooks import Hook, Moment
from jaxclust.training.placement import put
from jaxclust.training.prediction import predictor

TABLE = Table("beside_torch", "DAC beside a second reading in PyTorch", ())


class Scores(Hook):
    """ACC after every epoch, and the end of the phase after as many as asked for."""

    def __init__(self, predict: Any, labels: np.ndarray, epochs: int) -> None:
        self.predict, self.labels, self.epochs = predict, labels, epochs
        self.found: list[dict[str, float]] = []

    def on_epoch(self, moment: Moment) -> None:
        assigned = self.predict(moment.borrowed, fields=("assignments",)).assignments
        self.found.append(metrics.score(self.labels, np.asarray(assigned)))

    def ends_phase(self) -> bool:
        return len(self.found) >= self.epochs


def by_jaxclust(images: Any, labels: np.ndarray, k: int, seed: int, epochs: int) -> list[Any]:
    """Scores after each epoch."""
    method = dac.build(dac.PRESETS["reference"], jc.spec_of(images, n_clusters=k))
    data = put(images, jc.images.normalisation.measure(images))
    scores = Scores(predictor(method, data), labels, epochs)
    jc.fit(method, data, seed=seed, hooks=[scores])
    return scores.found


def by_torch(images: Any, labels: np.ndarray, k: int, seed: int, epochs: int) -> list[Any]:
    """Scores after each epoch, on a GPU where there is one."""
    try:
        import torch

        from experiments.witnesses import dac as witness
    except ImportError:
        raise SystemExit("this needs PyTorch: pip install -e '.[bench]'") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    assigned = islice(witness.fit(np.asarray(images), k, seed, device), epochs)
    return [metrics.score(labels, one) for one in assigned]


SIDES = {"jaxclust": by_jaxclust, "PyTorch": by_torch}


def row(side: str, dataset: str, seed: int, epochs: int, data_dir: Path) -> Row:
    """Scores of one seed on one side."""
    found = catalogue.load(dataset, data_dir)
    if found.labels is None or found.n_classes is None:
        raise SystemExit(f"{dataset} has no labels to score against")
    clock = time.perf_counter()
    scores = SIDES[side](found.images, found.labels, found.n_classes, seed, epochs)
    libraries = ("jax", "jaxlib", "flax") if side == "jaxclust" else ("torch",)
    return {
        "dataset": dataset.split("/")[-1].removesuffix(".npz"),
        "n_images": len(found.ids),
        "side": side,
        "seed": seed,
        **{name: [one[name] for one in scores] for name in ("acc", "nmi", "ari")},
        "seconds": round(time.perf_counter() - clock),
        "device": jax.devices()[0].device_kind,
        "versions": {name: version(name) for name in libraries},
    }


def page(rows: list[Row]) -> str:
    """Means and spreads of ACC after each epoch."""
    most = max(len(one["acc"]) for one in rows)
    heads = ["data set", "side", "seeds", *(f"ACC after {i + 1}" for i in range(most))]
    lines = [f"| {' | '.join([*heads, 'device'])} |", "| --- " * (most + 4) + "|"]
    groups: dict[tuple[str, str], list[Row]] = {}
    for one in rows:
        groups.setdefault((one["dataset"], one["side"]), []).append(one)
    for (dataset, side), group in sorted(groups.items()):
        columns = [[one["acc"][i] for one in group if len(one["acc"]) > i] for i in range(most)]
        cells = [dataset, side, ", ".join(str(one["seed"]) for one in group)]
        cells += [spread(values) if values else "–" for values in columns]
        lines.append(f"| {' | '.join([*cells, group[0]['device']])} |")
    return (
        f"# {TABLE.title}\n\nACC in percent after every outer epoch of the published schedule, "
        "mean ± standard deviation over seeds. Written by `python -m "
        f"experiments.tables.{TABLE.name} --data-dir DATA_DIR`; each seed's figures, seconds and "
        "versions are in the .json beside this file.\n\n" + "\n".join(lines) + "\n"
    )


def main() -> int:
    """Run what is missing, then write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=catalogue.default_data_dir())
    parser.add_argument("--datasets", nargs="+", default=["mnist"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the files lie")
    options = parser.parse_args()
    path = options.results / f"{TABLE.name}.json"
    rows: list[Row] = json.loads(path.read_text()) if path.is_file() else []
    for seed in options.seeds:
        for dataset in options.datasets:
            for side in options.sides:
                new = row(side, dataset, seed, options.epochs, options.data_dir)
                same = [
                    one
                    for one in rows
                    if (one["dataset"], one["side"], one["seed"]) == (new["dataset"], side, seed)
                ]
                rows = [one for one in rows if one not in same] + [new]
                options.results.mkdir(exist_ok=True, parents=True)
                path.write_text(json.dumps(rows, indent=1) + "\n")
                path.with_suffix(".md").write_text(page(rows))
    print(page(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
