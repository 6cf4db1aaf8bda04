"""Factors of samples that follow their nearest-neighbour graph; nothing here is n x n.

Graph-regularised non-negative matrix factorisation (Cai, He, Wang, Bao & Han 2009; Cai, He, Han &
Huang 2011) and spectral embedded clustering (Nie, Zeng, Tsang, Xu & Zhang 2011).
"""

from typing import Any

import numpy as np

from jaxclust.clustering.host import samples
from jaxclust.clustering.host.graph_merging import neighbour_graph
from jaxclust.core.errors import RunError, first_line

_TINY = 1e-10


def _clustered(rows: np.ndarray, k: int, seed: int) -> np.ndarray:
    """k-means, int32 [n], with ten starts, as the authors use."""
    from sklearn.cluster import KMeans

    # Its default 'auto' makes pyright take n_init for a string.
    starts: Any = 10
    with samples.quiet():
        return KMeans(k, n_init=starts, random_state=seed).fit_predict(rows).astype(np.int32)


def _weighed(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factors with columns of unit length in u; the same product, another graph term."""
    lengths = np.maximum(np.linalg.norm(u, axis=0, keepdims=True), _TINY)
    return u / lengths, v * lengths


def graph_nmf(
    x: np.ndarray, k: int, seed: int, count: int = 5, weight: float = 100.0, iterations: int = 300
) -> np.ndarray:
    """Clusters of x ~ V U^T whose V changes little along the neighbour graph.

    Multiplicative updates of `|x - V U^T|^2 + weight tr(V^T L V)`, L the Laplacian of the graph
    with edges of weight one (Cai et al. 2011, Eqs. 14-15); then k-means on V's rows scaled to unit
    length.

    Args:
        x: samples without negative values, float [n, d].
        k: clusters, and columns of V.
        seed: of the first factors and of k-means.
        count: neighbours of each sample.
        weight: of the graph's term (lambda).
        iterations: of the updates.

    Returns:
        assignments, int32 [n].

    Raises:
        RunError: samples that are not finite.
    """
    samples.check_finite(x, "images")
    if len(x) <= k:
        return np.arange(len(x), dtype=np.int32)
    graph = neighbour_graph(x, count).weights
    edges = graph.sign().maximum(graph.T.sign()).tocsr()
    degrees = np.asarray(edges.sum(axis=1)).ravel()[:, None]
    x = np.asarray(x, np.float64)
    rng = np.random.default_rng(seed)
    v, u = rng.random((len(x), k)), rng.random((x.shape[1], k))
    u, v = _weighed(u, v)
    for _ in range(iterations):
        pull = x @ u + weight * (edges @ v)
        v *= pull / np.maximum(v @ (u.T @ u) + weight * degrees * v, _TINY)
        u *= (x.T @ v) / np.maximum(u @ (v.T @ v), _TINY)
    _, v = _weighed(u, v)
    return _clustered(v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), _TINY), k, seed)


def spectral_embedded(
    x: np.ndarray, k: int, seed: int, count: int = 10, fit: float = 1.0, ridge: float = 1.0
) -> np.ndarray:
    """Spectral clusters that a linear map of the samples comes close to (Nie et al. 2011).

    The eigenvectors F [n, k] with the smallest eigenvalues of L + fit (H - P), L the graph's
    normalised Laplacian, H the centring matrix, P the ridge regression's projection, found by
    products alone; then k-means on F's rows.

    Args:
        x: samples, float [n, d].
        k: clusters.
        seed: of the eigenvector solver and of k-means.
        count: neighbours of each sample.
        fit: weight of the map's error, relative to the graph (mu).
        ridge: penalty on the map's weights (gamma).

    Returns:
        assignments, int32 [n]; with as many clusters as samples, each is its own.

    Raises:
        RunError: samples that are not finite, or eigenvectors that are not found.
    """
    from scipy.sparse.linalg import ArpackError, eigsh

    samples.check_finite(x, "images")
    if k >= len(x):
        return np.arange(len(x), dtype=np.int32)
    operator = _embedding(x, count, fit, ridge)
    first = np.random.default_rng(seed).standard_normal(len(x))
    try:
        # The largest eigenvalues, since the matrix is subtracted from a multiple of the identity.
        f: np.ndarray = eigsh(operator, k, which="LA", v0=first)[1]
    except ArpackError as error:
        raise RunError(
            f"spectral embedded clustering found no eigenvectors ({first_line(error)}); ask for "
            "fewer clusters, more neighbours or another method"
        ) from error
    return _clustered(f * np.sqrt(len(x)), k, seed)


def _embedding(x: np.ndarray, count: int, fit: float, ridge: float) -> Any:
    """(1 + fit) I - (L + fit (H - P)) of :func:`spectral_embedded`, as products with it."""
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import LinearOperator

    graph = neighbour_graph(x, count).weights
    edges: Any = graph.maximum(graph.T)
    scale = diags_array(1 / np.sqrt(np.maximum(np.asarray(edges.sum(axis=1)).ravel(), _TINY)))
    walk = csr_array(scale @ edges @ scale)
    centred = x - x.mean(axis=0, dtype=np.float64)
    solve = np.linalg.inv(centred.T @ centred + ridge * np.eye(x.shape[1]))

    def product(f: np.ndarray) -> np.ndarray:
        f = f.reshape(len(x), -1)
        mapped = centred @ (solve @ (centred.T @ f)) + f.mean(axis=0)
        return walk @ f + fit * mapped

    shape = (len(x), len(x))
    return LinearOperator(shape, matvec=product, matmat=product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
