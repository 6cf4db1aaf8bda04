"""k-means on pixels, edges and colours, or features, with the deep methods' interface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxclust.clustering import health, kmeans
from jaxclust.clustering.kmeans import KMeansState
from jaxclust.core import collectives, keys, settings
from jaxclust.core.settings import setting
from jaxclust.core.types import (
    Batch,
    Batches,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    Refit,
    Step,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.images.descriptors import Descriptor, check_descriptor, describe
from jaxclust.methods.parts import centroids
from jaxclust.methods.parts.gradient import counted
from jaxclust.methods.parts.recipe import recorded


@dataclass(frozen=True)
class Config:
    """k-means on the descriptors that `features` names, of the normalised images."""

    features: Descriptor = "auto"
    """pixels; hog: histograms of oriented gradients and an 8x8 grid of colours; auto: pixels for
    images under 64 pixels, otherwise hog."""
    full: bool = True
    """Full-set k-means from the seeds, before any mini-batch."""
    epochs: int = setting(0, least=0)
    """Epochs of mini-batch k-means after full-set k-means."""
    batch_size: int = setting(1024, least=1)
    """Images per mini-batch in those epochs."""
    seeding: kmeans.Seeding = "greedy"
    """greedy: k-means++ with the best of a few candidates; kmeans++ with one; uniform."""
    restarts: int = setting(10, least=1)
    """Independent seedings of full-set k-means; the lowest inertia wins."""
    max_iterations: int = setting(300, least=1)
    """Maximum Lloyd's iterations of each."""


PRESETS: dict[str, Config] = {"best": Config(), "paper": Config(seeding="uniform")}


def _refit(config: Config, k: int) -> Callable[[TrainState, Any], TrainState]:
    def begin(state: TrainState, features: Array) -> TrainState:
        """The seeds, or what full k-means makes of them."""
        key = keys.of(state, "seeding")
        if not config.full:
            seeds = kmeans.seed(key, features, k, config.seeding)
            return state.replace(cluster=KMeansState(seeds, jnp.zeros(k, jnp.float32)))
        fit = kmeans.fit(
            key,
            features,
            k,
            seeding=config.seeding,
            restarts=config.restarts,
            max_iterations=config.max_iterations,
        )
        return centroids.kept(state, fit)

    return begin


def _step(config: Config, axis_name: str | None) -> Step:
    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        # Descriptors are few values: every device moves the centroids by the whole batch.
        x = collectives.gathered(describe(batch.images, config.features), axis_name)
        assignments, distances = kmeans.assign(x, state.cluster.centroids)
        state = counted(state, assignments)
        moved = kmeans.update(state.cluster, x, assignments)
        info = StepInfo(jnp.mean(distances), health.cluster_health(state.usage))
        return state.replace(step=state.step + 1, cluster=moved), info

    return step


@recorded("kmeans")
def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """k-means as a Method of one phase; nothing is learned but centroids.

    There is no network; of `compute` only the devices' axis matters.

    Raises:
        InputError: images too small for the features asked for.
    """
    settings.check(config)
    check_descriptor(config.features, spec.shape)
    k = spec.n_clusters

    def init(key: Array, images: Array) -> TrainState:
        width = describe(images, config.features).shape[1]
        return first_state(key, centroids.none_yet(k, width), k)

    def predict(state: TrainState, images: Array) -> Prediction:
        return centroids.judged(describe(images, config.features), state.cluster.centroids)

    rows = None if config.full else kmeans.seeding_sample(k)
    first = Refit(_refit(config, k), rows=rows)
    batches = Batches(config.batch_size)
    phase = Phase("cluster", _step(config, compute.axis_name), config.epochs, batches, first=first)
    return Method(init, predict, (phase,), lambda state: {"centroids": state.cluster.centroids})
