"""What is shared by methods whose clusters are centroids that are not trained."""

import jax.numpy as jnp
from jax import Array

from jaxclust.clustering import health, kmeans
from jaxclust.clustering.distances import nearest_column, squared_distances
from jaxclust.clustering.kmeans import KMeansState
from jaxclust.core import keys
from jaxclust.core.types import Batches, Phase, Prediction, Refit, TrainState
from jaxclust.losses.dec import student_t_assignment


def none_yet(k: int, width: int) -> KMeansState:
    """k centroids of zeros."""
    return KMeansState(jnp.zeros((k, width), jnp.float32), jnp.zeros(k, jnp.float32))


def kept(state: TrainState, fit: kmeans.KMeansFit) -> TrainState:
    """The state with a fit's centroids and how full they are."""
    usage = health.shares(fit.assignments, len(fit.sizes))
    return state.replace(cluster=KMeansState(fit.centroids, fit.sizes), usage=usage)


def clustering_phase(batch_size: int) -> Phase:
    """k-means on all images' features, as a phase without steps.

    Args:
        batch_size: images per pass of the network.
    """

    def update(state: TrainState, features: Array) -> TrainState:
        k = len(state.cluster.centroids)
        return kept(state, kmeans.fit(keys.of(state, "seeding"), features, k, seeding="greedy"))

    return Phase("cluster", None, 0, Batches(batch_size), Refit(update))


def judged(features: Array, centroids: Array) -> Prediction:
    """Features [b, d] assigned to the nearest of centroids [k, d]."""
    distances = squared_distances(features, centroids)
    assignments, _ = nearest_column(distances)
    return Prediction(
        assignments, student_t_assignment(distances), features, {"centroid": assignments}
    )
