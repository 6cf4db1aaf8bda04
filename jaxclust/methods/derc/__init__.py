"""DERC: embedding, reduction, clustering, and retraining on the result.

Yan et al. 2020. An autoencoder's latents are reduced to two dimensions by t-SNE and
clustered there by a Gaussian mixture; the autoencoder is retrained so that latents of one cluster
attract each other, more strongly the more alike their probabilities of it are, and those of
different clusters repel (Eq. 7). Then the next round begins (Algorithm 1).
"""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxclust.clustering import kmeans
from jaxclust.clustering.host import reducers
from jaxclust.clustering.triplets import choose_triplets
from jaxclust.core import collectives, keys, settings
from jaxclust.core.types import (
    Batches,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    PyTree,
    Refit,
    TrainState,
    first_state,
)
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.losses.triplet import weighted_triplet
from jaxclust.methods.derc.derc_config import PRESETS, WITHOUT_RETRAINING, Config, of_data
from jaxclust.methods.derc.derc_map import (
    DENSE_CLUSTERS,
    MOST_MAPPED,
    Placed,
    Settings,
    cluster_map,
    place,
    sample,
)
from jaxclust.methods.parts import autoencoding
from jaxclust.methods.parts.autoencoding import Autoencoder
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import USUAL, epochs_or, reconstruction_phase
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.layers import Module

__all__ = ["PRESETS", "WITHOUT_RETRAINING", "ClusterState", "Config", "build"]


class ClusterState(NamedTuple):
    """The result of the last clustering of all images, with c clusters."""

    latents: ArrayLike  # float [m, d]: of the images mapped then; all of up to 50,000 features
    embedding: ArrayLike  # float [n, dimensions]
    probabilities: ArrayLike  # float [n, c]
    noise: ArrayLike  # bool [n]: of no cluster (DBSCAN, HDBSCAN)
    rows: ArrayLike  # int32 [m]: the images mapped


def _most_mapped(config: Config) -> int:
    """Maximum number of images mapped; retraining needs all."""
    return MOST_MAPPED if config.network == "none" else sys.maxsize


def _init(config: Config, spec: DataSpec, auto: Autoencoder) -> Callable[..., TrainState]:
    n, mapped = spec.n_images, min(spec.n_images, _most_mapped(config))
    clusters = DENSE_CLUSTERS if config.finds_number else spec.n_clusters

    def init(key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        weights, stats = auto.first(network_key, images)
        width = auto.width(weights, stats, images)
        dimensions = {"none": width, "pca": min(config.dimensions, width, n)}.get(
            config.reducer, config.dimensions
        )
        params = {"network": weights}
        cluster = ClusterState(
            latents=jnp.zeros((mapped, width), jnp.float32),
            embedding=jnp.zeros((n, dimensions), jnp.float32),
            probabilities=jnp.full((n, clusters), 1 / clusters, jnp.float32),
            noise=jnp.zeros(n, bool),
            rows=jnp.zeros(mapped, jnp.int32),
        )
        opt_state = optax.adam(config.learning_rate).init(params)
        return first_state(run_key, cluster, clusters, params, stats, opt_state)

    return init


def _recluster(config: Config, k: int) -> Refit:
    """Reduce and cluster all latents, on the host; the optimiser starts afresh."""
    how = Settings(*(getattr(config, name) for name in Settings._fields))

    def update(state: TrainState, latents: np.ndarray) -> TrainState:
        n = len(latents)
        rows = sample(n, _most_mapped(config), keys.host_seed(state, "sample"))
        reduced = reducers.reduce(
            latents[rows],
            config.reducer,
            keys.host_seed(state, "reducer"),
            config.dimensions,
            config.neighbours,
        )
        seed = keys.host_seed(state, "clusterer")
        mapped = Placed(reduced, *cluster_map(how, reduced, k, seed))
        placed = place(latents, rows, mapped)
        clusters = placed.probabilities.shape[1]
        counts = np.bincount(placed.probabilities.argmax(axis=1), minlength=clusters)
        usage = (counts / n).astype(np.float32)
        probabilities = placed.probabilities.astype(np.float32)
        cluster = ClusterState(latents[rows], placed.embedding, probabilities, placed.noise, rows)
        opt_state = optax.adam(config.learning_rate).init(state.params)
        return state.replace(cluster=cluster, usage=usage, opt_state=opt_state)

    return Refit(update, on="host")


def _loss(config: Config, auto: Autoencoder, axis_name: str | None) -> Callable[..., Any]:
    """Eq. 8: triplets of Eq. 7 and the reconstruction."""

    def loss(params: PyTree, at: Context) -> tuple[Array, Aux]:
        cluster, images = at.state.cluster, at.batch.images
        # Triplets are sought in the whole batch, where devices share one.
        rows = collectives.gathered(at.batch.rows, axis_name)
        p = cluster.probabilities[rows]
        classes = jnp.argmax(p, axis=1)
        same, other, exists = choose_triplets(at.draw("triplets"), classes, ~cluster.noise[rows])
        own = jnp.take_along_axis(p, classes[:, None], axis=1)
        difference = jnp.abs(own - jnp.take_along_axis(p[same], classes[:, None], axis=1))[:, 0]
        coded, stats = auto.run(params["network"], at.state.model_state, images, at.key)
        z = collectives.gathered(coded.latent, axis_name)
        margin = config.margin if config.hinge else None
        triplet = weighted_triplet(z, z[same], z[other], difference, exists, margin)
        error = reconstruction_error(coded.decoded, images, per_pixel=config.per_pixel)
        terms = {"triplet": triplet, "reconstruction": error, "triplets": jnp.mean(exists)}
        # How evenly clusters are filled says something where their number was asked for.
        mine = jnp.argmax(cluster.probabilities[at.batch.rows], axis=1)
        counted = None if config.finds_number else mine
        return config.alpha * triplet + (1 - config.alpha) * error, Aux(stats, terms, counted)

    return loss


def _predict(config: Config, auto: Autoencoder) -> Callable[[TrainState, Array], Prediction]:
    def predict(state: TrainState, images: Array) -> Prediction:
        latent = auto.latent(state.params["network"], state.model_state, images)
        neighbour, _ = kmeans.assign(latent, state.cluster.latents)
        probabilities = state.cluster.probabilities[jnp.asarray(state.cluster.rows)[neighbour]]
        assignments = jnp.argmax(probabilities, axis=1).astype(jnp.int32)
        return Prediction(assignments, probabilities, latent, {config.clusterer: assignments})

    return predict


def _phases(
    config: Config, spec: DataSpec, auto: Autoencoder, axis_name: str | None
) -> tuple[Phase, ...]:
    adam, sizes = optax.adam(config.learning_rate), (config.batch_size, spec.n_images)
    pretrain = reconstruction_phase(
        lambda params, stats, images, key: auto.run(params["network"], stats, images, key),
        adam,
        epochs=epochs_or(config.pretrain_epochs, USUAL, *sizes),
        batch_size=config.batch_size,
        ranges=config.pretrain_views,
        axis_name=axis_name,
    )
    step = gradient_step(_loss(config, auto, axis_name), adam, axis_name=axis_name)
    recluster = _recluster(config, spec.n_clusters)
    if config.network == "none":
        return (Phase("cluster", None, 0, Batches(config.batch_size), first=recluster),)
    # Scored after its clustering only: latents move away from those clustered.
    epochs, batches = epochs_or(config.epochs, (10, 350), *sizes), Batches(config.batch_size)
    retraining = [
        Phase(f"retrain{i + 1}", step, epochs, batches, first=recluster, scored="first")
        for i in range(config.iterations)
    ]
    return (pretrain, *retraining, Phase("cluster", None, 0, batches, first=recluster))


def _autoencoder(
    config: Config, spec: DataSpec, compute: Compute, network: Autoencoder | Module | None
) -> Autoencoder:
    if config.network == "none" and network is None:
        return autoencoding.NOTHING
    name: Any = config.network
    width: Any = config.latent_width
    return autoencoding.build(name, width, spec, compute, network)


def _artifacts(state: TrainState) -> dict[str, Any]:
    cluster: ClusterState = state.cluster
    return {"map": cluster.embedding, "noise": cluster.noise, "mapped": np.shape(cluster.rows)[0]}


@recorded("derc")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Autoencoder | Module | None = None,
) -> Method:
    """DERC as pure functions, and its stages on the host.

    An image gets the cluster of the image with the nearest latent among those last clustered; if it
    was one of them, its own.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: an autoencoder in place of the named one; see :func:`autoencoding.build`.

    Returns:
        A Method whose phases are `pretrain`, `retrain1`, `retrain2`, … and `cluster`.

    Raises:
        InputError: invalid settings, a missing library, or images too small for the network.
    """
    settings.check(config)
    reducers.check_reducer(config.reducer, spec.n_images, config.dimensions)
    config = of_data(config, spec)
    auto = _autoencoder(config, spec, compute, network)
    phases = _phases(config, spec, auto, compute.axis_name)
    return Method(
        _init(config, spec, auto),
        _predict(config, auto),
        phases,
        _artifacts,
        finds_number=config.finds_number,
    )
