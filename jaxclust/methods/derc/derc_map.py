"""Clustering DERC's map, and how sure that is."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import kmeans, neighbours
from jaxclust.clustering.host import clusterers, mixture, reducers
from jaxclust.core import device, keys

Clusterer = Literal["gmm", "kmeans", "dbscan", "hdbscan"]
# Most features that are mapped; of more, a sample is mapped, and the rest are placed by their
# neighbours in it.
MOST_MAPPED = 50_000
_PLACED_BY = 10
# Clusters DBSCAN may find; what lies in smaller ones counts as noise.
DENSE_CLUSTERS = 256
# HDBSCAN's smallest cluster: all images divided by this, and the least it may be.
_SMALLEST, _LEAST = 100, 5


class Settings(NamedTuple):
    """The settings of :class:`derc_config.Config` used to cluster the map."""

    clusterer: Clusterer
    covariance: mixture.Covariance
    restarts: int
    eps: float
    min_samples: int
    min_cluster_size: int | None


def _unsure(nearest: np.ndarray, clusters: int) -> np.ndarray:
    """Probabilities that name a cluster and hardly prefer it: int [j] -> [j, clusters]."""
    rows = np.full((len(nearest), clusters), 0.999 / clusters, np.float32)
    rows[np.arange(len(nearest)), nearest] += 0.001
    return rows


def cluster_map(how: Settings, x: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster a map x[n, j] -> (probabilities [n, c], noise bool [n])."""
    noise = np.zeros(len(x), bool)
    if how.clusterer == "gmm":
        fitted = mixture.fit(x, k, seed, covariance=how.covariance, restarts=how.restarts)
        return mixture.posteriors(x, fitted), noise
    if how.clusterer == "kmeans":
        fit = kmeans.fit(keys.run_key(seed), jnp.asarray(x), k)
        return np.eye(k, dtype=np.float32)[np.asarray(fit.assignments)], noise
    found = _dense(how, x)
    noise = found.noise
    reducers.progress.info(
        "%s found %d clusters and %d images in none (n_clusters %d is not used)",
        how.clusterer.upper(), len(np.unique(found.assignments[~noise])), noise.sum(), k,
    )  # fmt: skip
    if found.left_out:
        reducers.progress.warning(
            "%s found more clusters than the %d that are kept; images in the %d smallest count as "
            "noise", how.clusterer.upper(), DENSE_CLUSTERS, found.left_out,
        )  # fmt: skip
    probabilities = np.eye(DENSE_CLUSTERS, dtype=np.float32)[found.assignments]
    probabilities[noise] = _unsure(found.assignments[noise], DENSE_CLUSTERS)
    return probabilities, noise


def _dense(how: Settings, x: np.ndarray) -> clusterers.Dense:
    """Clusters by density; a radius is in fiftieths of the map's standard deviation."""
    if how.clusterer == "dbscan":
        spread = float(x.std()) or 1.0
        return clusterers.dbscan(x, how.eps * spread / 50, how.min_samples, DENSE_CLUSTERS)
    smallest = how.min_cluster_size or max(_LEAST, len(x) // _SMALLEST)
    return clusterers.hdbscan(x, smallest, how.min_samples, DENSE_CLUSTERS)


def sample(n: int, most: int, seed: int) -> np.ndarray:
    """Rows int32 that are mapped, ascending: all of n, or `most` of them."""
    if n <= most:
        return np.arange(n, dtype=np.int32)
    chosen = np.random.default_rng(seed).choice(n, most, replace=False)
    return np.sort(chosen).astype(np.int32)


class Placed(NamedTuple):
    """The map and its clustering of all images, n."""

    embedding: np.ndarray  # float [n, j]
    probabilities: np.ndarray  # float [n, c]
    noise: np.ndarray  # bool [n]


def place(latents: np.ndarray, rows: np.ndarray, mapped: Placed) -> Placed:
    """Extend a sample's map to all: each lies amid its nearest, in the nearest one's cluster.

    Args:
        latents: float [n, d].
        rows: those that were mapped, int [m].
        mapped: their map and its clustering.
    """
    if len(rows) == len(latents):
        return mapped
    reducers.progress.info(
        "the map is of %d of %d images; the rest are placed by their nearest neighbours",
        len(rows),
        len(latents),
    )
    count = min(_PLACED_BY, len(rows))
    find = device.jit(neighbours.nearest_among, static_argnums=2)
    near = np.array(find(jnp.asarray(latents), jnp.asarray(latents[rows]), count))
    # A sampled image stays where the map has it.
    near[rows] = np.arange(len(rows))[:, None]
    embedding = mapped.embedding[near].mean(axis=1)
    return Placed(embedding, mapped.probabilities[near[:, 0]], mapped.noise[near[:, 0]])
