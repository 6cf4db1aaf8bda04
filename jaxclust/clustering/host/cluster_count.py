"""How many clusters features fall into, judged without labels.

Features are laid out in a t-SNE map and merged there bottom-up by Ward's linkage, once: cutting
that tree gives a clustering for every number of clusters. Each is judged by three numbers, and the
best silhouette decides.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxclust.clustering.host import clusterers, reducers, samples
from jaxclust.core.errors import InputError

# Samples the curve is made of; it holds all distances between them.
MOST_SAMPLES = 5000
# "auto" looks no further than this, nor than twice the root of the number of samples.
_MOST = 250
# Up to here every number is tried; after that, each is about this fraction larger than the last.
_EVERY, _GROWTH = 40, 0.04
# Subsamples that stability compares, and the fraction of the samples in each.
_SUBSAMPLES, _SHARE = 4, 0.8
# Minimum width of a cluster in the map, so that two samples in one place have a density.
_LEAST_VARIANCE = 1e-3
# Below it groups are hardly separated (Kaufman & Rousseeuw 1990); evenly spread samples have 0.4.
_APART = 0.5


class Curve(NamedTuple):
    """Numbers of clusters, with the evidence for each."""

    counts: list[int]
    # Mean silhouette in the map (Rousseeuw 1987), in [-1, 1].
    silhouette: list[float]
    # Mean adjusted Rand index of the cut with those of subsamples' trees; 1: always the same.
    stability: list[float]
    # Bayesian information criterion of the Gaussian mixture with the clusters' moments (Schwarz
    # 1978): lower is better.
    bic: list[float]
    chosen: int  # of the best silhouette
    next_best: int | None  # the best except the chosen one and its neighbours in the list
    hdbscan: int  # clusters that HDBSCAN finds in the map, which is told no number

    def as_json(self) -> dict[str, Any]:
        """Its fields by name."""
        return self._asdict()

    def complaint(self) -> str | None:
        """What to be wary of, in one line."""
        best = self.silhouette[self.counts.index(self.chosen)]
        if best >= _APART:
            return None
        return (
            f"the groups are hardly separated (silhouette {best:.2f} at {self.chosen} clusters), "
            "so their number is a guess; look at the curve in the page, and give --n-clusters"
        )


def asked(said: int | str, n: int) -> list[int]:
    """The numbers of clusters to try.

    Args:
        said: a number; "auto"; or a range such as "5:40", both ends included.
        n: samples.

    Raises:
        InputError: none of these, or more clusters than samples.

    >>> asked("3:6", 100)
    [3, 4, 5, 6]
    >>> asked("auto", 100)[-1]
    20
    """
    if isinstance(said, int):
        return [said]
    if said == "auto":
        return _spaced(2, max(2, min(_MOST, 2 * math.isqrt(n), n - 1)))
    low, colon, high = said.partition(":")
    try:
        first, last = int(low), int(high if colon else low)
    except ValueError:
        raise InputError(
            f"‹n_clusters› must be a number, auto, or a range such as 5:40, not '{said}'"
        ) from None
    if not colon:
        return [first]
    most = min(n, MOST_SAMPLES)
    if not 2 <= first <= last < most:
        raise InputError(
            f"‹n_clusters› {said}: a range runs from 2 or more to fewer than {most:,} (of {n:,} "
            "images), the smaller number first"
        )
    return _spaced(first, last)


def _spaced(first: int, last: int) -> list[int]:
    counts = [first]
    while counts[-1] < last:
        step = 1 if counts[-1] < _EVERY else max(1, round(_GROWTH * counts[-1]))
        counts.append(min(last, counts[-1] + step))
    return counts


def curve(x: np.ndarray, counts: Sequence[int], seed: int = 0) -> Curve:
    """Judge every number of clusters of x[n, d]; of more than 5,000 samples, only 5,000 are used.

    The same samples, counts and seed give the same curve on the same machine.

    Args:
        x: features, float [n, d].
        counts: numbers of clusters, ascending, each at least 2 and less than n.
        seed: of the map and of all random draws.

    Raises:
        RunError: features that are not finite or all alike.
    """
    rng = np.random.default_rng(seed)
    if len(x) > MOST_SAMPLES:
        x = x[np.sort(rng.choice(len(x), MOST_SAMPLES, replace=False))]
    counts = [count for count in counts if count < len(x)]
    y = reducers.reduce(np.asarray(x, np.float32), "tsne", seed)
    with samples.quiet():
        silhouettes, stabilities, criteria = _judged(y, counts, rng)
    chosen, following = _best_two(counts, silhouettes)
    dense = clusterers.hdbscan(y, max(5, len(y) // 100), 10, len(y))
    found = len(np.unique(dense.assignments[~dense.noise]))
    return Curve(list(counts), silhouettes, stabilities, criteria, chosen, following, found)


def _judged(
    y: np.ndarray, counts: Sequence[int], rng: np.random.Generator
) -> tuple[list[float], list[float], list[float]]:
    """Silhouette, stability and BIC of the tree's cut at every count."""
    cuts, distances = _tree(y), _distances(y)
    size = max(2, int(_SHARE * len(y)))
    parts = [np.sort(rng.choice(len(y), size, replace=False)) for _ in range(_SUBSAMPLES)]
    cuts_of_parts = [_tree(y[part]) for part in parts]
    silhouettes, stabilities, criteria = [], [], []
    for count in counts:
        labels = cuts(count)
        others = [cut(count) for cut in cuts_of_parts]
        silhouettes.append(round(_silhouette(distances, labels), 4))
        stabilities.append(round(_stability(labels, parts, others), 4))
        criteria.append(round(_bic(y, labels), 4))
    return silhouettes, stabilities, criteria


def _tree(y: np.ndarray) -> Callable[[int], np.ndarray]:
    """Ward's tree (Ward 1963) of y[n, 2]; a count's cut -> labels int [n] from 0."""
    from scipy.cluster.hierarchy import fcluster, linkage

    tree = linkage(np.asarray(y, np.float64), "ward")
    return lambda count: fcluster(tree, count, "maxclust") - 1


def _distances(y: np.ndarray) -> np.ndarray:
    """All distances, float32 [n, n]."""
    from scipy.spatial.distance import cdist

    return cdist(y, y).astype(np.float32)


def _silhouette(distances: np.ndarray, labels: np.ndarray) -> float:
    """Mean of (b - a) / max(a, b): a within the own cluster, b to the nearest other one's."""
    k, rows = int(labels.max()) + 1, np.arange(len(labels))
    if k < 2:
        return 0.0
    member = np.eye(k, dtype=np.float32)[labels]
    sizes = member.sum(axis=0)
    sums = distances @ member
    a = sums[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    b = means.min(axis=1)
    alone = sizes[labels] < 2
    return float(np.where(alone, 0.0, (b - a) / np.maximum(np.maximum(a, b), 1e-12)).mean())


def _stability(
    labels: np.ndarray, parts: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> float:
    from sklearn.metrics import adjusted_rand_score

    pairs = zip(parts, others, strict=True)
    return float(np.mean([adjusted_rand_score(labels[part], other) for part, other in pairs]))


def _bic(y: np.ndarray, labels: np.ndarray) -> float:
    """Of the mixture whose components have the clusters' shares, means and covariances."""
    n, d = y.shape
    y, k = y.astype(np.float64), int(labels.max()) + 1
    total = np.full(n, -np.inf)
    for cluster in range(k):
        of_cluster = y[labels == cluster]
        mean = of_cluster.mean(axis=0)
        centred = of_cluster - mean
        covariance = centred.T @ centred / len(of_cluster) + _LEAST_VARIANCE * np.eye(d)
        factor = np.linalg.inv(np.linalg.cholesky(covariance))
        whitened = (y - mean) @ factor.T
        log_density = -0.5 * np.sum(np.square(whitened), axis=1) + np.log(np.diag(factor)).sum()
        log_density -= 0.5 * d * math.log(2 * math.pi)
        total = np.logaddexp(total, math.log(len(of_cluster) / n) + log_density)
    free = k * (1 + d + d * (d + 1) // 2) - 1
    return float(free * math.log(n) - 2 * total.sum())


def _best_two(counts: Sequence[int], scores: Sequence[float]) -> tuple[int, int | None]:
    """The count with the best score, and the best one that is not next to it in the list."""
    best = int(np.argmax(scores))
    apart = [i for i in range(len(counts)) if abs(i - best) > 1]
    following = max(apart, key=lambda i: scores[i], default=None)
    return counts[best], None if following is None else counts[following]
