"""Near-duplicate images, and images unlike all others, judged by their features."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import neighbours
from jaxclust.core import device

# All pairs are compared, in blocks; beyond this that takes minutes on a CPU.
MOST = 50_000
# Neighbours an outlier is judged by, and those in which copies are looked for.
_JUDGED_BY, _LOOKED_AT = 10, 50
# Images of a chain of copies whose distances are all held.
_HELD = 2_000
_ROUNDING = 1e-6
# The usual distance is at least this: where most images are copies, the median is zero.
_LEAST = 1e-4


class Likeness(NamedTuple):
    """How similar each image's nearest ones are."""

    # Mean cosine distance to its ten nearest images, over the set's median of that: 1 is usual.
    outlier: np.ndarray  # float [n], rounded to four decimal places
    # Rows of near-duplicates, int [m] each, within which every pair is within the bound; the
    # largest first.
    groups: list[np.ndarray]


def likeness(x: np.ndarray, bound: float) -> Likeness | None:
    """Near-duplicates and outliers of features.

    Args:
        x: float [n, d], n of 2 or more.
        bound: largest cosine distance of near-duplicates.

    Returns:
        None for more than 50,000 images.
    """
    n = len(x)
    if n > MOST:
        return None
    x = np.asarray(x, np.float32)
    find = device.jit(neighbours.nearest, static_argnums=1)
    rows, distances = map(np.asarray, find(jnp.asarray(x), min(_LOOKED_AT, n - 1)))
    mean = distances[:, :_JUDGED_BY].mean(axis=1)
    outlier = mean / max(float(np.median(mean)), _LEAST)
    return Likeness(np.round(outlier.astype(np.float64), 4), _groups(x, rows, distances, bound))


def _groups(
    x: np.ndarray, rows: np.ndarray, distances: np.ndarray, bound: float
) -> list[np.ndarray]:
    """Chains of neighbours within the bound, cut into groups in which every pair is."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Between exact copies, rounding leaves a few millionths.
    bound += _ROUNDING
    near = distances <= bound
    if not near.any():
        return []
    one, other = np.nonzero(near)[0], rows[near]
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(x), len(x)))
    _, chain = connected_components(graph, directed=False)
    members = np.unique(np.concatenate([one, other]))
    order = members[np.argsort(chain[members], kind="stable")]
    chains = np.split(order, np.flatnonzero(np.diff(chain[order])) + 1)
    found = [group for each in chains for group in _cut(x, each, bound) if len(group) > 1]
    return sorted(found, key=lambda group: (-len(group), group[0]))


def _cut(x: np.ndarray, chain: np.ndarray, bound: float) -> list[np.ndarray]:
    """A chain's groups by complete linkage; of a very long one by what surrounds one image.

    Unit vectors within half a straight distance of one are within the whole of each other,
    and the cosine distance is half the square of the straight one.
    """
    unit = x[chain] / np.maximum(np.linalg.norm(x[chain], axis=1, keepdims=True), 1e-12)
    if len(chain) <= _HELD:
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import squareform

        apart = np.clip(1 - unit.astype(np.float64) @ unit.T.astype(np.float64), 0, 2)
        np.fill_diagonal(apart, 0)
        tree = linkage(squareform(apart, checks=False), "complete")
        labels = fcluster(tree, bound, "distance")
        return [chain[labels == label] for label in np.unique(labels)]
    groups, left = [], np.arange(len(chain))
    while left.size:
        close = 1 - unit[left] @ unit[left[0]] <= bound / 4
        close[0] = True
        groups.append(chain[left[close]])
        left = left[~close]
    return groups
