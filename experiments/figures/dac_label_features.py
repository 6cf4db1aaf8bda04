"""What DAC's label features hold: Table 3 and Figs. 3 and 4 of Chang et al. 2017.

    python -m experiments.figures.dac_label_features RUN_DIR [--data-dir DATA_DIR]

RUN_DIR is a finished run of DAC on a labelled set. Published (MNIST, ACC): largest entry
97.75, k-means 97.61, spectral 93.48, agglomerative 97.53, NMF 93.47; on CIFAR-10 52.18,
51.06, 51.93, 50.30, 49.93. Fig. 4: entries move to below 0.1 and above 0.9 as training
goes on.

Time: a minute. Results, by the run's data set, in experiments/results/:
dac_table3-SET.md and .json, dac_features-SET.png (Fig. 3), dac_entries-SET.png (Fig. 4).
"""

import argparse
import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.figures import figures
from experiments.tables.grid import RESULTS, spread
from jaxclust import metrics
from jaxclust.clustering import kmeans
from jaxclust.clustering.host import clusterers
from jaxclust.core import device
from jaxclust.data import catalogue

SEEDS = (0, 1, 2)
# Images of a cluster in Fig. 3, and images of the row of failures.
SHOWN, FAILURES = 2, 10


def by_kmeans(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """This package's k-means."""
    fit = device.jit(kmeans.fit, static_argnums=2)
    return np.asarray(fit(jax.random.key(seed), jnp.asarray(features), k).assignments)


def by_nmf(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The strongest of k components."""
    components = clusterers.nmf(features, k, seed)
    weights = clusterers.nmf_weights(jnp.asarray(features), jnp.asarray(components))
    return np.asarray(jnp.argmax(weights, axis=1))


def by_merging(features: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Ward's linkage, which draws nothing."""
    del seed
    return clusterers.agglomerative(features, k)


CLUSTERERS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "largest entry (DAC)": lambda features, k, seed: features.argmax(axis=1),
    "k-means": by_kmeans,
    "spectral": clusterers.spectral,
    "agglomerative": by_merging,
    "NMF": by_nmf,
}


def table3(features: np.ndarray, labels: np.ndarray, summary: dict[str, Any]) -> None:
    """Cluster the label features in every way and write the figures."""
    k, name = summary["n_clusters"], summary["dataset"]
    rows = {}
    for title, cluster in CLUSTERERS.items():
        scored = [metrics.score(labels, cluster(features, k, seed)) for seed in SEEDS]
        rows[title] = {key: [one[key] for one in scored] for key in ("nmi", "ari", "acc")}
    lines = ["| clustered by | NMI | ARI | ACC |", "| --- | --- | --- | --- |"]
    for title, row in rows.items():
        lines.append(f"| {title} | {' | '.join(spread(row[key]) for key in row)} |")
    kept = ("method", "dataset", "preset", "seed", "n_images", "device", "versions")
    record = {key: summary[key] for key in kept}
    versions = ", ".join(f"{key} {value}" for key, value in summary["versions"].items())
    text = (
        f"# Table 3: clusterings of DAC's label features, {name}\n\n"
        f"Of one finished run ({summary['method']}, preset {summary['preset']}, seed "
        f"{summary['seed']}, {summary['n_images']} images); percent, mean ± standard deviation "
        "over three seeds of each clusterer. Written by `python "
        "python -m experiments.figures.dac_label_features RUN_DIR`.\n\n" + "\n".join(lines)
    )
    text += f"\n\nDevice: {summary['device']}. Versions: {versions}.\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"dac_table3-{name}.md").write_text(text)
    (RESULTS / f"dac_table3-{name}.json").write_text(
        json.dumps({"run": record, "seeds": SEEDS, "rows": rows}, indent=1) + "\n"
    )
    print("\n".join(lines))


def figure3(features: np.ndarray, labels: np.ndarray, images: np.ndarray, name: str) -> None:
    """Images beside their label features: sure ones of every cluster, and failures."""
    plt = figures.pyplot()
    assignments = features.argmax(axis=1)
    k = features.shape[1]
    confidence = features.max(axis=1)
    _, classes = np.unique(labels, return_inverse=True)
    usual = {c: np.bincount(classes[assignments == c]).argmax() for c in np.unique(assignments)}
    right = np.array([usual[c] for c in assignments]) == classes
    shown = []
    for cluster in usual:
        mine = np.flatnonzero((assignments == cluster) & right)
        shown += mine[np.argsort(-confidence[mine])[:SHOWN]].tolist()
    wrong = np.flatnonzero(~right)
    shown += wrong[np.argsort(-confidence[wrong])[:FAILURES]].tolist()
    columns = 10
    rows = -(-len(shown) // columns)
    size = (columns, 2.2 * rows)
    figure, grid = plt.subplots(
        2 * rows, columns, figsize=size, squeeze=False, layout="constrained"
    )
    for axes in grid.flat:
        axes.axis("off")
    for place, i in enumerate(shown):
        row, column = divmod(place, columns)
        picture, bars = grid[2 * row, column], grid[2 * row + 1, column]
        picture.imshow(images[i].squeeze(), cmap="gray")
        picture.set_title(str(labels[i]), fontsize=8, color="black" if right[i] else "#D55E00")
        bars.axis("on")
        bars.bar(range(k), features[i], color="#0072B2")
        bars.set(ylim=(0, 1), xticks=[], yticks=[])
    figure.suptitle(f"Label features on {name}; orange: failures, the surest first")
    figure.savefig(RESULTS / f"dac_features-{name}.png", dpi=100)
    plt.close(figure)


def figure4(run: Path, name: str) -> None:
    """Shares of small and large entries over training."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    rows = [row for line in lines if "entries_0_to_0.1" in (row := json.loads(line))]
    shares = {
        key.removeprefix("entries_").replace("_", " "): [row[key] for row in rows]
        for key in sorted(rows[0], key=lambda key: key.split("_")[1:2])
        if key.startswith("entries_")
    }
    path = RESULTS / f"dac_entries-{name}.png"
    places = [row["epoch"] for row in rows]
    figures.stacked(
        path, places, shares, x="outer epoch", title=f"Entries of label features, {name}"
    )


def main() -> int:
    """Read the run, write the table and both pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    if not (options.run / "summary.json").is_file():
        raise SystemExit(f"{options.run} is no finished run: it has no summary.json")
    summary = json.loads((options.run / "summary.json").read_text())
    config = json.loads((options.run / "config.json").read_text())["options"]
    with (options.run / "assignments.csv").open() as file:
        labels = np.array([row["label"] for row in csv.DictReader(file)])
    with np.load(options.run / "embeddings.npz") as arrays:
        features = arrays["features"]
    data_dir = options.data_dir or catalogue.default_data_dir()
    names = ("image_size", "labels_from_folders", "limit", "imbalance", "seed")
    chosen = {name: config[name] for name in names}
    image_set = catalogue.load(config["dataset"], data_dir, **chosen)
    table3(features, labels, summary)
    figure3(features, labels, image_set.images, summary["dataset"])
    figure4(options.run, summary["dataset"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
