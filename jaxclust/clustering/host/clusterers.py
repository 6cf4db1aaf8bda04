"""Spectral, agglomerative and density-based clustering and NMF, on the host.

scikit-learn's algorithms with the settings image clustering papers use, and what is needed to judge
samples they have not seen.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.clustering.host import samples
from jaxclust.core.errors import RunError, first_line

Linkage = Literal["ward", "average", "complete", "single"]


def spectral(x: np.ndarray, k: int, seed: int, neighbours: int = 10) -> np.ndarray:
    """Normalised spectral clustering of the nearest-neighbour graph (Ng et al. 2002).

    Args:
        x: samples, float [n, d].
        k: number of clusters.
        seed: of the eigenvector solver and of k-means.
        neighbours: edges of each sample, itself included.

    Returns:
        assignments, int32 [n]; with as many clusters as samples, each is its own.

    Raises:
        RunError: samples that are not finite, or eigenvectors that are not found.
    """
    from scipy.sparse.linalg import ArpackError
    from sklearn.cluster import SpectralClustering

    samples.check_finite(x, "images")
    if k >= len(x):
        # There are no more eigenvectors than samples, and the solver wants one to spare.
        return np.arange(len(x), dtype=np.int32)
    clusterer = SpectralClustering(
        k, affinity="nearest_neighbors", n_neighbors=min(neighbours, len(x)), random_state=seed
    )
    try:
        with samples.quiet():
            return clusterer.fit_predict(x).astype(np.int32)
    except ArpackError as error:
        raise RunError(
            f"spectral clustering found no eigenvectors ({first_line(error)}); ask for fewer "
            "clusters, more neighbours or another method"
        ) from error


def agglomerative(x: np.ndarray, k: int, linkage: Linkage = "ward") -> np.ndarray:
    """Bottom-up merging of x[n, d] into k clusters, k <= n -> assignments int32 [n].

    Raises:
        RunError: samples that are not finite.
    """
    from sklearn.cluster import AgglomerativeClustering

    samples.check_finite(x, "images")
    return AgglomerativeClustering(k, linkage=linkage).fit_predict(x).astype(np.int32)


def nmf(x: np.ndarray, k: int, seed: int, max_iterations: int = 200) -> np.ndarray:
    """Components float32 [k, d] of x ~ W H, x[n, d], W and H without negative entries.

    Lee & Seung 1999; a sample belongs to the component with its largest weight, see
    :func:`nmf_weights`. With more components than rows or columns, they start at random.

    Raises:
        RunError: samples that are not finite.
    """
    from sklearn.decomposition import NMF

    samples.check_finite(x, "images")
    # Its default 'auto' makes pyright take n_components for a string.
    components: Any = k
    # The other initialisation uses singular vectors, and there are no more of them than these.
    first = "nndsvda" if k <= min(x.shape) else "random"
    solver = NMF(components, init=first, max_iter=max_iterations, random_state=seed)
    with samples.quiet():
        components = solver.fit(x).components_
    # Of unit length, so that weights of different components compare.
    lengths = np.linalg.norm(components, axis=1, keepdims=True)
    return (components / np.maximum(lengths, 1e-12)).astype(np.float32)


def nmf_weights(x: Array, components: Array, sweeps: int = 100) -> Array:
    """Weights W >= 0 with the smallest `|x - W H|^2`: [n, d], [k, d] -> float [n, k].

    Coordinate descent on one component after another, each in closed form.
    """
    high = jax.lax.Precision.HIGHEST
    gram = jnp.dot(components, components.T, precision=high)
    cross = jnp.dot(x, components.T, precision=high)
    k = components.shape[0]

    def one(i: Array, weights: Array) -> Array:
        j = i % k
        column = jax.lax.dynamic_index_in_dim(gram, j, axis=1)
        slope = cross[:, j] - jnp.dot(weights, column, precision=high)[:, 0]
        moved = weights[:, j] + slope / jnp.maximum(gram[j, j], 1e-12)
        return weights.at[:, j].set(jnp.maximum(moved, 0))

    return jax.lax.fori_loop(0, sweeps * k, one, jnp.zeros((x.shape[0], k), x.dtype))


class Dense(NamedTuple):
    """What DBSCAN or HDBSCAN found."""

    assignments: np.ndarray  # int32 [n]; noise has the nearest cluster
    noise: np.ndarray  # bool [n]
    left_out: int  # clusters beyond those kept, whose samples are noise


def dbscan(x: np.ndarray, eps: float, min_samples: int, most: int) -> Dense:
    """Density-based clusters (Ester et al. 1996) of x[n, d], the largest first.

    Args:
        x: samples, float [n, d].
        eps: radius of a neighbourhood.
        min_samples: samples that make one dense.
        most: clusters kept; samples of smaller ones count as noise.

    Raises:
        RunError: samples that are not finite.
    """
    from sklearn.cluster import DBSCAN

    samples.check_finite(x, "images")
    found = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(x)
    return _largest_first(x, found, most)


def hdbscan(x: np.ndarray, smallest: int, min_samples: int, most: int) -> Dense:
    """Density-based clusters of any density (Campello et al. 2013) of x[n, d], the largest first.

    Args:
        x: samples, float [n, d].
        smallest: minimum number of samples in a cluster.
        min_samples: samples that make a neighbourhood dense, at most as many as there are.
        most: clusters kept; samples of smaller ones count as noise.

    Raises:
        RunError: samples that are not finite.
    """
    from sklearn.cluster import HDBSCAN

    samples.check_finite(x, "images")
    smallest, min_samples = max(2, min(smallest, len(x))), min(min_samples, len(x))
    # Its default for copying is to change, and pyright takes it for a string.
    copying: Any = True
    clusterer = HDBSCAN(min_cluster_size=smallest, min_samples=min_samples, copy=copying)
    return _largest_first(x, clusterer.fit_predict(x), most)


def _largest_first(x: np.ndarray, found: np.ndarray, most: int) -> Dense:
    """Clusters numbered by size; noise (negative) goes to the nearest sample's cluster."""
    from sklearn.neighbors import KNeighborsClassifier

    sizes = np.bincount(found[found >= 0], minlength=1)
    rank = np.empty_like(sizes)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    assignments = np.where(found >= 0, rank[np.maximum(found, 0)], 0)
    noise = (found < 0) | (assignments >= most)
    if noise.any() and not noise.all():
        nearest = KNeighborsClassifier(1).fit(x[~noise], assignments[~noise])
        assignments[noise] = nearest.predict(x[noise])
    elif noise.all():
        assignments[:] = 0
    left_out = max(0, int(np.count_nonzero(sizes)) - most)
    return Dense(assignments.astype(np.int32), noise, left_out)
