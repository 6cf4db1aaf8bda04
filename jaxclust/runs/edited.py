"""A run after edits: a run directory of its own beside the original."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxclust import metrics
from jaxclust.clustering import health
from jaxclust.core.errors import InputError
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.edits import Edited, content
from jaxclust.runs.finished import NAMES, FinishedRun

# What edits leave as it was.
_KEPT = ("metrics.jsonl", "duplicates.csv", "skipped.csv")


def check_out(out: Path, run: FinishedRun) -> None:
    """Refuse a folder that has something else in it.

    Raises:
        InputError: says what to do.
    """
    if out.resolve() == run.path.resolve():
        raise InputError(f"{out} is the run itself, which is kept; give another ‹out›")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty; give another ‹out›")


def write(run: FinishedRun, edited: Edited, listed: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Everything but the page.

    Args:
        run: the original, which is not changed.
        edited: its clusters after the edits.
        listed: the edits, kept beside the result.
        out: an empty folder, or none yet.
    """
    k = len(edited.names)
    config = {**run.config, "n_clusters": k, "edited_from": str(run.path.resolve())}
    folder = RunDirectory(out)
    out.mkdir(parents=True, exist_ok=True)
    for name in _KEPT:
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, out / name)
    flat = run.features.reshape(len(run.ids), -1)
    means = np.stack([flat[edited.clusters == c].mean(axis=0) for c in range(k)])
    arrays = {"features": run.features, "centroids": means.astype(np.float32)}
    if run.map is not None:
        arrays["map"] = run.map
    folder.write_arrays("embeddings.npz", **arrays)
    _write_assignments(run, edited, folder)
    sizes = np.bincount(edited.clusters, minlength=k).tolist()
    rows = zip(range(k), edited.names, sizes, strict=True)
    folder.write_table(NAMES, ("cluster", "name", "images"), rows)
    folder.write_json("edits.json", content(run, listed))
    folder.write_json("config.json", config)
    # Last: with it the run counts as finished.
    folder.write_json("summary.json", {**_summary(run, edited), "out": str(out)})


def _write_assignments(run: FinishedRun, edited: Edited, folder: RunDirectory) -> None:
    """assignments.csv, with names; an image that was put somewhere by hand is there for certain."""
    certain = np.where(edited.touched, 1.0, run.confidence)
    columns: dict[str, Any] = {
        "index": range(len(run.ids)),
        "id": run.ids,
        "cluster": edited.clusters.tolist(),
        "confidence": [float(f"{value:.6g}") for value in certain],
        "name": [edited.names[cluster] for cluster in edited.clusters],
        "noise": edited.noise.astype(int).tolist(),
    }
    if run.labels is not None:
        columns["label"] = run.labels.tolist()
    if run.outlier is not None:
        columns["outlier"] = [float(f"{value:.6g}") for value in run.outlier]
    rows = zip(*columns.values(), strict=True)
    folder.write_table("assignments.csv", tuple(columns), rows)


def _summary(run: FinishedRun, edited: Edited) -> dict[str, Any]:
    k, labels = len(edited.names), run.labels
    shares = health.shares(jnp.asarray(edited.clusters, jnp.int32), k)
    found = {name: float(value) for name, value in health.cluster_health(shares).items()}
    if labels is not None and np.any(labels >= 0):
        found |= metrics.score(labels, edited.clusters)
    found["empty_clusters"] = int(found["empty_clusters"])
    about = {
        "edited": True,
        "n_clusters": k,
        "clusters_found": k,
        "finds_number": False,
        "warnings": [],
        "starts": None,
    }
    # The original's scores, which include those by other rules, say nothing of these clusters.
    kept = {n: v for n, v in run.summary.items() if n.split("_")[0] not in metrics.SCORES}
    return {**kept, **about, **found}
