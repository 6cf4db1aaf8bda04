"""How good a clustering looks without labels: numbers for choosing between several.

For all of them, higher is better. None looks at labels; what each is worth as a criterion was
measured (experiments/results/starts.md).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from jaxclust import metrics


def confidence(probabilities: ArrayLike) -> float:
    """Mean of the largest probability of each row of [n, k]."""
    return float(np.max(np.asarray(probabilities), axis=1).mean())


def evenness(assignments: ArrayLike, k: int) -> float:
    """Entropy of the cluster sizes over log k: 1 if all are equal, 0 for a single cluster.

    Args:
        assignments: int [n].
        k: clusters, 2 or more.
    """
    shares = np.bincount(np.asarray(assignments), minlength=k) / len(np.asarray(assignments))
    filled = shares[shares > 0]
    return float(-(filled * np.log(filled)).sum() / np.log(k))


def agreement(one: ArrayLike, other: ArrayLike) -> float:
    """Fraction of images with the same cluster, int [n] each, clusters numbered alike."""
    return float(np.mean(np.asarray(one) == np.asarray(other)))


def silhouette(features: ArrayLike, assignments: ArrayLike) -> float:
    """Simplified silhouette: how much nearer the own centroid is than the next one.

    Mean of (b - a) / max(a, b), a an image's distance to the mean of its cluster, b to the
    nearest other mean (Hruschka, de Castro & Campello 2004); it takes n * k distances, where
    Rousseeuw's (1987) takes n * n.

    Args:
        features: float [n, d].
        assignments: int [n].

    Returns:
        float in [-1, 1]; 0 for a single cluster.
    """
    features = np.asarray(features, np.float64)
    _, own = np.unique(np.asarray(assignments), return_inverse=True)
    k = own.max() + 1
    if k < 2:
        return 0.0
    sums = np.zeros((k, features.shape[1]))
    np.add.at(sums, own, features)
    means = sums / np.bincount(own)[:, None]
    squares = (features**2).sum(1)[:, None] - 2 * features @ means.T + (means**2).sum(1)[None]
    distances = np.sqrt(np.maximum(squares, 0))
    rows = np.arange(len(own))
    a = distances[rows, own]
    distances[rows, own] = np.inf
    b = distances.min(axis=1)
    largest = np.maximum(a, b)
    return float(np.mean(np.where(largest > 0, (b - a) / np.maximum(largest, 1e-300), 0.0)))


def consensus(assignments: Sequence[ArrayLike]) -> list[float]:
    """Mean NMI of each of several clusterings int [n] with the others; 1 for a single one."""
    count = len(assignments)
    if count < 2:
        return [1.0] * count
    table = np.eye(count)
    for i in range(count):
        for j in range(i):
            table[i, j] = table[j, i] = metrics.nmi(assignments[i], assignments[j])
    return [float((row.sum() - 1) / (count - 1)) for row in table]


def mean_ranks(columns: Sequence[Sequence[float]]) -> list[float]:
    """Several criteria as one: the mean rank of each clustering, the best highest.

    Equal values share the mean of their ranks, so a criterion that is equal for all decides
    nothing.

    Args:
        columns: the criteria, each with one value per clustering.

    >>> mean_ranks([[0.1, 0.9, 0.5], [3.0, 3.0, 7.0]])
    [0.25, 1.25, 1.5]
    """
    from scipy.stats import rankdata

    return np.mean(rankdata(np.asarray(columns, float), axis=1) - 1, axis=0).tolist()
