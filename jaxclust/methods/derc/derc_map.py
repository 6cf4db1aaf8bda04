"""What clusters the map of DERC, and how sure it is."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxclust.clustering import kmeans
from jaxclust.clustering.host import clusterers, mixture, reducers
from jaxclust.core import keys

Clusterer = Literal["gmm", "kmeans", "dbscan", "hdbscan"]
# Clusters DBSCAN may find; what lies in smaller ones counts as noise.
DENSE_CLUSTERS = 256
# Of all images, in HDBSCAN's smallest cluster, and how many at least.
_SMALLEST, _LEAST = 100, 5


class Settings(NamedTuple):
    """Those of :class:`derc_config.Config` that the map is clustered by."""

    clusterer: Clusterer
    covariance: mixture.Covariance
    restarts: int
    eps: float
    min_samples: int
    min_cluster_size: int | None


def own_number(clusterer: Clusterer) -> bool:
    """Whether it finds its own number of clusters."""
    return clusterer in {"dbscan", "hdbscan"}


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
    probabilities = np.eye(DENSE_CLUSTERS, dtype=np.float32)[found.assignments]
    probabilities[noise] = _unsure(found.assignments[noise], DENSE_CLUSTERS)
    return probabilities, noise


def _dense(how: Settings, x: np.ndarray) -> clusterers.Dense:
    """Clusters by density; a radius is in standard deviations of the map over 50."""
    if how.clusterer == "dbscan":
        spread = float(x.std()) or 1.0
        return clusterers.dbscan(x, how.eps * spread / 50, how.min_samples, DENSE_CLUSTERS)
    smallest = how.min_cluster_size or max(_LEAST, len(x) // _SMALLEST)
    return clusterers.hdbscan(x, smallest, how.min_samples, DENSE_CLUSTERS)
