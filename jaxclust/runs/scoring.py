"""Scores of a run's clusterings, and the table of its last one."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxclust import metrics
from jaxclust.clustering import health
from jaxclust.core.types import Prediction
from jaxclust.data import catalogue
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.progress import Reporter
from jaxclust.training.hooks import Moment

# The fields of a prediction that scores need.
SCORED = ("assignments", "readings")


class Evaluator:
    """Full passes over the data: health always, scores where labels exist.

    Args:
        predict: see :func:`prediction.predictor`.
        labels: of the images, for scores only; None without any.
        n_clusters: the number asked for; 0 where the method finds its own.
        reporter: where scores are logged.
        every: epochs between two passes.
    """

    def __init__(
        self,
        predict: Any,
        labels: np.ndarray | None,
        n_clusters: int,
        reporter: Reporter,
        every: int,
    ) -> None:
        self.predict, self.labels, self.k = predict, labels, n_clusters
        self.reporter, self.every = reporter, every
        self.previous: Any = None  # int [n]: assignments of the pass before

    def epoch(self, at: Moment) -> None:
        """Score the state after an epoch, if due; a hook of `training.fit`."""
        if at.epoch % self.every:
            return
        prediction = self.predict(at.borrowed, fields=SCORED)
        self.judge(prediction, int(at.borrowed.step), at.phase, at.epoch)

    def judge(self, prediction: Prediction, step: int, phase: str, epoch: int) -> None:
        """Log the scores of a prediction of all images."""
        found = scores(prediction, self.labels, self.k)
        row = {"step": step, "phase": phase, "epoch": epoch, **found}
        if self.previous is not None:
            row["churn"] = float(health.churn(prediction.assignments, self.previous))
        self.previous = prediction.assignments
        self.reporter.evaluated(row)


def scores(prediction: Prediction, labels: np.ndarray | None, k: int) -> dict[str, Any]:
    """Health of the assignments to k clusters or more, and their scores, null without labels.

    k is 0 where no number of clusters was expected.
    """
    sizes = np.bincount(prediction.assignments, minlength=k)
    # DBSCAN and HDBSCAN may find more than k.
    shares = health.shares(prediction.assignments, len(sizes))
    result: dict[str, Any] = dict.fromkeys(("nmi", "nmi_arithmetic", "ari", "acc"))
    if labels is not None and not np.any(labels >= 0):
        labels = None  # below 0 means unknown
    if labels is not None:
        result |= metrics.score(labels, prediction.assignments)
    for name, reading in prediction.readings.items():
        if labels is not None and len(prediction.readings) > 1:
            scored = metrics.score(labels, reading)
            result |= {f"{key}_{name}": scored[key] for key in ("nmi", "acc")}
    result |= {name: float(value) for name, value in health.cluster_health(shares).items()}
    result["empty_clusters"] = int((sizes == 0).sum())
    return result


def confidence(prediction: Prediction) -> np.ndarray:
    """The probability of each image's assigned cluster, float32 [n]."""
    clusters = np.asarray(prediction.assignments)
    return np.asarray(prediction.probabilities[np.arange(len(clusters)), clusters])


def write_assignments(
    directory: RunDirectory,
    image_set: catalogue.ImageSet,
    prediction: Prediction,
    noise: Any,
    outlier: np.ndarray | None = None,
) -> None:
    """Write one row per image; with a noise column if any image belongs to no cluster.

    And with how far images are from their nearest ones, if given (:class:`likeness.Likeness`).
    """
    header = ["index", "id", "cluster", "confidence"]
    columns: list[Any] = [
        range(len(image_set.ids)),
        image_set.ids,
        prediction.assignments,
        (float(f"{value:.6g}") for value in confidence(prediction)),
    ]
    if image_set.labels is not None:
        header.append("label")
        columns.append(image_set.labels)
    if noise is not None and np.any(noise):
        header.append("noise")
        columns.append(np.asarray(noise).astype(int))
    if outlier is not None:
        header.append("outlier")
        columns.append(outlier.tolist())
    directory.write_table("assignments.csv", header, zip(*columns, strict=True))
    if image_set.skipped:
        directory.write_table("skipped.csv", ("file", "reason"), image_set.skipped)


def write_duplicates(
    directory: RunDirectory, image_set: catalogue.ImageSet, groups: Sequence[np.ndarray]
) -> None:
    """duplicates.csv: the images of every group of near-duplicates, the largest first."""
    rows = ((i, int(row), image_set.ids[row]) for i, group in enumerate(groups) for row in group)
    directory.write_table("duplicates.csv", ("group", "index", "id"), rows)
