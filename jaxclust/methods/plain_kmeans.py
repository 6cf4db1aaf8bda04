"""k-means on pixels or edges and colours, with the same face as the deep methods."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxclust.clustering import health, kmeans
from jaxclust.clustering.distances import nearest_column, squared_distances
from jaxclust.core.types import (
    Batch,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.images.descriptors import Descriptor, check_descriptor, describe
from jaxclust.losses.dec import student_t_assignment


@dataclass(frozen=True)
class Config:
    """k-means on what `features` names, of the normalised images."""

    features: Descriptor = "auto"
    """pixels; hog: histograms of oriented gradients and an 8x8 grid of colours; auto:
    pixels of images under 64 pixels, hog from there."""
    full: bool = True
    """Full-set k-means from the seeds, before any mini-batch."""
    epochs: int = 0
    """Passes of mini-batch k-means after it."""
    batch_size: int = 1024
    """Images a mini-batch of those passes."""
    seeding: kmeans.Seeding = "greedy"
    """greedy: k-means++ with the best of a few candidates; kmeans++ with one; uniform."""
    restarts: int = 10
    """Independent seedings; the lowest inertia wins."""
    max_iterations: int = 300
    """Bound on Lloyd's iterations of each."""


PRESETS: dict[str, Config] = {"best": Config(), "paper": Config(seeding="uniform")}


class ClusterState(NamedTuple):
    """k-means' cluster state."""

    kmeans: kmeans.KMeansState  # centroids [k, d], counts [k]
    usage: Array  # float [k]: running share of each cluster


def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """k-means as a Method of one phase; nothing is learned but centroids.

    There is no network, so `compute` changes nothing.

    Raises:
        InputError: images too small for the features asked for.
    """
    del compute
    check_descriptor(config.features, spec.image_shape)
    k = spec.n_clusters

    def init(key: Array, images: Array) -> TrainState:
        centroids = jnp.zeros((k, describe(images, config.features).shape[1]))
        state = kmeans.KMeansState(centroids, jnp.zeros(k))
        cluster = ClusterState(state, health.even_usage(k))
        return first_state(key, cluster)

    def begin(state: TrainState, features: Array) -> TrainState:
        if not config.full:
            seeds = kmeans.seed(state.key, features, k, config.seeding)
            fresh = ClusterState(kmeans.KMeansState(seeds, jnp.zeros(k)), health.even_usage(k))
            return state.replace(cluster=fresh)
        fit = kmeans.fit(
            state.key,
            features,
            k,
            seeding=config.seeding,
            restarts=config.restarts,
            max_iterations=config.max_iterations,
        )
        shares = health.shares(fit.assignments, k)
        cluster = ClusterState(kmeans.KMeansState(fit.centroids, fit.sizes), shares)
        return state.replace(cluster=cluster)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        x = describe(batch.images, config.features)
        assignments, distances = kmeans.assign(x, state.cluster.kmeans.centroids)
        cluster = ClusterState(
            kmeans.update(state.cluster.kmeans, x, assignments),
            health.update_usage(state.cluster.usage, assignments),
        )
        info = StepInfo(jnp.mean(distances), health.cluster_health(cluster.usage))
        return state.replace(step=state.step + 1, cluster=cluster), info

    def predict(state: TrainState, images: Array) -> Prediction:
        x = describe(images, config.features)
        distances = squared_distances(x, state.cluster.kmeans.centroids)
        assignments, _ = nearest_column(distances)
        return Prediction(
            assignments, student_t_assignment(distances), x, {"centroid": assignments}
        )

    sample = None if config.full else kmeans.seeding_sample(k)
    phase = Phase("cluster", config.epochs, config.batch_size, step, begin, sample=sample)
    return Method(init, predict, (phase,))
