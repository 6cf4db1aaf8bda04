"""How many clusters features fall into, judged without labels.

Features are laid out in a t-SNE map and merged there bottom-up by Ward's linkage, once: cutting
that tree gives a clustering for every number of clusters. Each is judged in the map by silhouette,
stability and BIC, and k-means that starts from it in the features by its silhouette there.

A map keeps neighbours together but not distances. So its silhouette may count only the largest
gaps, and where groups overlap it prefers very few of them. If the features are an encoder's, their
silhouette decides, and where groups lie apart in the map, both count alike. Between pixels, light
and position rule distances; there the map alone decides.
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
# Principal components of the features that k-means there sees.
_COMPONENTS = 50


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
    chosen: int  # of the best silhouette, in the map, in the features or in both
    next_best: int | None  # the best except the chosen one and its neighbours in the list
    hdbscan: int  # clusters that HDBSCAN finds in the map, which is told no number
    # Mean silhouette in the features of k-means that starts from the cut; None: not looked at.
    feature_silhouette: list[float] | None = None

    def as_json(self) -> dict[str, Any]:
        """Its fields by name."""
        return self._asdict()

    def apart(self) -> bool:
        """Whether groups lie apart in the map."""
        return max(self.silhouette) >= _APART

    def place(self) -> str:
        """Where the silhouette that decides is taken: "map", "features" or "map and features"."""
        if self.feature_silhouette is None:
            return "map"
        return "map and features" if self.apart() else "features"

    def scores(self) -> list[float]:
        """What decides: one silhouette, or the sum of both, each scaled to [0, 1]."""
        if self.feature_silhouette is None:
            return self.silhouette
        if not self.apart():
            return self.feature_silhouette
        return (_scaled(self.silhouette) + _scaled(self.feature_silhouette)).tolist()

    def complaint(self) -> str | None:
        """What to be wary of, in one line."""
        if self.apart():
            return None
        best = max(self.silhouette)
        return (
            f"the groups are hardly separated (silhouette in the map at most {best:.2f}), so their "
            f"number, {self.chosen}, is a guess; look at the curve in the page, and give "
            "--n-clusters"
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


def curve(x: np.ndarray, counts: Sequence[int], seed: int = 0, *, encoded: bool = True) -> Curve:
    """Judge every number of clusters of x[n, d]; of more than 5,000 samples, only 5,000 are used.

    The same samples, counts and seed give the same curve on the same machine.

    Args:
        x: features, float [n, d].
        counts: numbers of clusters, ascending, each at least 2 and less than n.
        seed: of the map and of all random draws.
        encoded: whether distances between features say how alike samples are, as an encoder's do
            and those of pixels do not; else the map alone decides.

    Raises:
        RunError: features that are not finite or all alike.
    """
    rng = np.random.default_rng(seed)
    if len(x) > MOST_SAMPLES:
        x = x[np.sort(rng.choice(len(x), MOST_SAMPLES, replace=False))]
    x = np.asarray(x, np.float32)
    counts = [count for count in counts if count < len(x)]
    y = reducers.reduce(x, "tsne", seed)
    with samples.quiet():
        cut = _tree(y)
        cuts = [cut(count) for count in counts]
        silhouettes, stabilities, criteria = _judged(y, cuts, counts, rng)
        of_features = _judged_in_features(x, cuts, seed) if encoded else None
    dense = clusterers.hdbscan(y, max(5, len(y) // 100), 10, len(y))
    found = len(np.unique(dense.assignments[~dense.noise]))
    judged = Curve(counts, silhouettes, stabilities, criteria, 0, None, found, of_features)
    chosen, following = _best_two(counts, judged.scores())
    return judged._replace(chosen=chosen, next_best=following)


def _judged_in_features(x: np.ndarray, cuts: Sequence[np.ndarray], seed: int) -> list[float]:
    """Silhouette in x[n, d] of k-means that starts from each of the map's cuts."""
    from sklearn.cluster import KMeans

    x = reducers.reduce(x, "pca", seed, _COMPONENTS)
    distances, silhouettes = _distances(x), []
    with samples.fewer_threads(len(x), MOST_SAMPLES):
        for cut in cuts:
            means: Any = np.stack([x[cut == one].mean(axis=0) for one in np.unique(cut)])
            found = KMeans(len(means), init=means).fit_predict(x)
            labels = np.unique(found, return_inverse=True)[1]  # copies may leave clusters empty
            silhouettes.append(round(_silhouette(distances, labels), 4))
    return silhouettes


def _judged(
    y: np.ndarray, cuts: Sequence[np.ndarray], counts: Sequence[int], rng: np.random.Generator
) -> tuple[list[float], list[float], list[float]]:
    """Silhouette, stability and BIC of the tree's cut, int [n], at every count."""
    distances = _distances(y)
    size = max(2, int(_SHARE * len(y)))
    parts = [np.sort(rng.choice(len(y), size, replace=False)) for _ in range(_SUBSAMPLES)]
    cuts_of_parts = [_tree(y[part]) for part in parts]
    silhouettes, stabilities, criteria = [], [], []
    for count, labels in zip(counts, cuts, strict=True):
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


def _scaled(values: Sequence[float]) -> np.ndarray:
    """Values shifted and scaled to [0, 1]; zeros where they are all the same."""
    above = np.asarray(values) - min(values)
    return above / max(above.max(), 1e-12)


def _best_two(counts: Sequence[int], scores: Sequence[float]) -> tuple[int, int | None]:
    """The count with the best score, and the best one that is not next to it in the list."""
    best = int(np.argmax(scores))
    apart = [i for i in range(len(counts)) if abs(i - best) > 1]
    following = max(apart, key=lambda i: scores[i], default=None)
    return counts[best], None if following is None else counts[following]
