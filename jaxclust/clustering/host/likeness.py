"""Near-duplicate images, and images unlike all others, judged by their features."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import neighbours
from jaxclust.core import device

# All pairs are compared, in blocks; beyond this that takes minutes on a CPU.
MOST = 50_000
# Neighbours an outlier is judged by, and those in which copies are looked for.
_JUDGED_BY, _LOOKED_AT = 10, 50
# Images of a chain of copies whose distances are all held; the share of a longer chain that is
# worth gathering around one image.
_HELD, _WORTH = 2_000, 0.01
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


def complaint_of(images: Any) -> str | None:
    """A warning where :func:`likeness` finds nothing, as there are too many features [n, d]."""
    if len(images.shape) != 2 or len(images) <= MOST:
        return None
    return f"near-duplicates and outliers are not looked for among more than {MOST:,} images"


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
    """A chain's groups by complete linkage; a long chain is first cut into parts.

    Much of a long chain may be copies of one image. Unit vectors within half a straight distance
    of one are within the whole of each other, and the cosine distance is half the square of the
    straight one. What is not gathered so is halved until its pairs can be held.
    """
    unit = x[chain] / np.maximum(np.linalg.norm(x[chain], axis=1, keepdims=True), 1e-12)
    groups, left = [], np.arange(len(chain))
    while len(left) > _HELD:
        close = 1 - unit[left] @ unit[left[0]] <= bound / 4
        if close.sum() < _WORTH * len(left):
            break
        groups.append(chain[left[close]])
        left = left[~close]
    for part in _parts(unit, left):
        groups += [chain[part[group]] for group in _complete(unit[part], bound)]
    return groups


def _parts(unit: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """Rows in parts of a size that can be held, halved between two that lie far apart."""
    if len(rows) <= _HELD:
        return [rows] if len(rows) else []
    one = rows[np.argmin(unit[rows] @ unit[rows[0]])]
    other = rows[np.argmin(unit[rows] @ unit[one])]
    order = np.argsort(unit[rows] @ (unit[other] - unit[one]), kind="stable")
    halves = np.array_split(rows[order], 2)
    return [part for half in halves for part in _parts(unit, np.sort(half))]


def _complete(unit: np.ndarray, bound: float) -> list[np.ndarray]:
    """Groups of unit vectors by complete linkage: every pair is within the bound."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(unit) < 2:
        return []
    apart = np.clip(1 - unit.astype(np.float64) @ unit.T.astype(np.float64), 0, 2)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(apart, checks=False), "complete")
    labels = fcluster(tree, bound, "distance")
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]
