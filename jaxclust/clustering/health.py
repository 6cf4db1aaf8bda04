"""Signs that a clustering is collapsing, computable without labels."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

# Usage is averaged over about this many samples per cluster.
_WINDOW = 20
# A cluster is called empty after three such windows without a sample.
_EMPTY = 0.05
# And tiny below this fraction of an even share.
_TINY = 0.01


def shares(assignments: Array, k: int) -> Array:
    """Fraction of the samples in each cluster: assignments int [n] -> float32 [k].

    Counted in whole numbers and divided once: summing 1 / n in single precision would be off by
    parts in a thousand at a million samples.
    """
    counts = jnp.zeros(k, jnp.int32).at[assignments].add(1)
    return counts.astype(jnp.float32) / assignments.shape[0]


def update_usage(usage: Array, assignments: Array) -> Array:
    """Running average of the cluster shares, float [k], with a batch's added.

    A batch may be far smaller than k, so that its own shares would call most
    clusters empty; the average spans about 20 samples per cluster.
    """
    k = usage.shape[0]
    rate = min(1.0, assignments.shape[0] / (_WINDOW * k))
    return (1 - rate) * usage + rate * shares(assignments, k)


def cluster_health(usage: Array) -> dict[str, Array]:
    """How evenly clusters are filled, from their shares (exact or running) float [k].

    Returns:
        `empty_clusters` int [], clusters with next to no share;
        `largest_share` float [] in [0, 1]; `assignment_entropy` float [], the
        entropy of the shares as a fraction of log k (1: even, 0: one cluster).
    """
    k = usage.shape[0]
    return {
        "empty_clusters": jnp.sum(usage < _EMPTY / k),
        "largest_share": jnp.max(usage),
        "assignment_entropy": jnp.sum(jax.scipy.special.entr(usage)) / jnp.log(max(k, 2)),
    }


def complaint(sizes: Array | np.ndarray) -> str | None:
    """A warning about a finished clustering with these cluster sizes int [k].

    None where every cluster holds an image and at least a hundredth of an even share.
    """
    sizes = np.asarray(sizes)
    k, empty = len(sizes), int(np.sum(sizes == 0))
    tiny = int(np.sum(sizes < _TINY * sizes.sum() / k)) - empty
    if not empty and not tiny:
        return None
    found = f"{k - empty} of {k} clusters hold images"
    if tiny:
        found += f", {tiny} of them less than a hundredth of an even share"
    return f"{found}; ask for fewer clusters, or take another seed or method"


def churn(assignments: ArrayLike, previous: ArrayLike) -> Array:
    """Fraction float [] of samples whose assignment [n] differs from the previous one."""
    return jnp.mean(jnp.asarray(assignments) != jnp.asarray(previous))
