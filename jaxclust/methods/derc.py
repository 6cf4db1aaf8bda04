"""DERC: embedding, reduction, clustering, and retraining on what they say.

Yan et al. 2020. An autoencoder's latents are reduced to two dimensions by t-SNE and
clustered there by a Gaussian mixture; the autoencoder is retrained so that latents of one
cluster attract each other, the more the surer the mixture is, and those of others
repel (Eq. 7), and the round begins again (Algorithm 1).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxclust.clustering import kmeans
from jaxclust.clustering.host import clusterers, mixture, reducers
from jaxclust.clustering.triplets import choose_triplets
from jaxclust.core import collectives, keys, settings
from jaxclust.core.settings import setting
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
from jaxclust.images.augment import Affine
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.losses.triplet import weighted_triplet
from jaxclust.methods.parts import autoencoding
from jaxclust.methods.parts.autoencoding import Autoencoder
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import USUAL, epochs_or, reconstruction_phase
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.layers import Module

# Clusters DBSCAN may find; what lies in smaller ones counts as noise.
_DENSE_CLUSTERS = 256
_VIEWS = Affine(15.0, 0.1, 0.15, 0.2)


@dataclass(frozen=True)
class Config:
    """DERC's settings; the defaults are preset `best`."""

    starts: int = setting(1, least=1, most=64)
    """Starts that are begun; one is chosen without labels and trained to the end."""
    epochs: int | None = setting(None, least=0)
    """Passes over the data of each retraining; default 10, of small sets as many as make 350
    steps."""
    iterations: int = setting(5, least=0)
    """Rounds of retraining, 1 to 5 in the paper; 0: DERC-R."""
    batch_size: int = setting(256, least=1)
    """Images a step, in which triplets are sought."""
    network: autoencoding.Name = "strided"
    """strided: Table II's with padding; strided_valid: without, as printed."""
    latent_width: int | None = setting(None, least=1)
    """Width of the latent; default the number of clusters (Sec. IV.B)."""
    pretrain_epochs: int | None = setting(None, least=0)
    """Passes of reconstruction training before; default 30, of small sets as many as make
    1000 steps."""
    pretrain_views: Affine = _VIEWS
    """Random views pre-training reconstructs."""
    learning_rate: float = setting(1e-3, above=0)
    """Adam's, in all phases."""

    reducer: reducers.Reducer = "tsne"
    """What takes latents to few dimensions: tsne, umap, pca or none."""
    dimensions: int = setting(2, least=1)
    """How many."""
    neighbours: int = setting(30, least=1)
    """t-SNE's perplexity, UMAP's neighbours."""
    clusterer: Literal["gmm", "kmeans", "dbscan"] = "gmm"
    """What clusters there; dbscan finds its own number of clusters."""
    restarts: int = setting(20, least=1)
    """Starts of the mixture; the likeliest wins."""
    covariance: mixture.Covariance = "full"
    """Of the mixture: full, tied, diag or spherical."""
    eps: float = setting(1.0, above=0)
    """Radius of a DBSCAN neighbourhood, in standard deviations of the reduced latents
    over 50."""
    min_samples: int = setting(10, least=1)
    """Images that make such a neighbourhood dense."""

    alpha: float = setting(0.7, least=0, most=1)
    """Weight of the triplet loss; the reconstruction has 1 - alpha (Eq. 8)."""
    margin: float = setting(1.0, least=0)
    """Of the triplet loss."""
    hinge: bool = True
    """Stop pushing triplets apart by the margin; without, Eq. 7 as printed."""
    per_pixel: bool = False
    """Average the reconstruction error over an image's values instead of summing."""


PRESETS: dict[str, Config] = {
    "best": Config(),
    "paper": Config(pretrain_views=Affine(), iterations=1),
}


class ClusterState(NamedTuple):
    """What the last clustering of all images said, c clusters."""

    latents: ArrayLike  # float [n, d]: of the images then
    embedding: ArrayLike  # float [n, dimensions]
    probabilities: ArrayLike  # float [n, c]
    noise: ArrayLike  # bool [n]: of no cluster (DBSCAN)


def _unsure(nearest: np.ndarray, clusters: int) -> np.ndarray:
    """Probabilities that name a cluster and hardly prefer it: int [j] -> [j, clusters]."""
    rows = np.full((len(nearest), clusters), 0.999 / clusters, np.float32)
    rows[np.arange(len(nearest)), nearest] += 0.001
    return rows


def cluster_map(config: Config, x: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cluster reduced latents x[n, j] -> (probabilities [n, c], noise bool [n])."""
    n = len(x)
    noise = np.zeros(n, bool)
    if config.clusterer == "gmm":
        fitted = mixture.fit(x, k, seed, covariance=config.covariance, restarts=config.restarts)
        return mixture.posteriors(x, fitted), noise
    if config.clusterer == "kmeans":
        fit = kmeans.fit(keys.run_key(seed), jnp.asarray(x), k)
        return np.eye(k, dtype=np.float32)[np.asarray(fit.assignments)], noise
    spread = float(x.std()) or 1.0
    found = clusterers.dbscan(x, config.eps * spread / 50, config.min_samples, _DENSE_CLUSTERS)
    noise = found.noise
    reducers.progress.info(
        "DBSCAN found %d clusters and %d images in none (n_clusters %d is not used)",
        len(np.unique(found.assignments[~noise])), noise.sum(), k,
    )  # fmt: skip
    probabilities = np.eye(_DENSE_CLUSTERS, dtype=np.float32)[found.assignments]
    probabilities[noise] = _unsure(found.assignments[noise], _DENSE_CLUSTERS)
    return probabilities, noise


def _init(config: Config, spec: DataSpec, auto: Autoencoder) -> Callable[..., TrainState]:
    n, k, width = spec.n_images, spec.n_clusters, config.latent_width
    clusters = _DENSE_CLUSTERS if config.clusterer == "dbscan" else k
    dimensions = {"none": width, "pca": min(config.dimensions, width or 1, n)}.get(
        config.reducer, config.dimensions
    )

    def init(key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        weights, stats = auto.first(network_key, images)
        params = {"network": weights}
        cluster = ClusterState(
            latents=jnp.zeros((n, width), jnp.float32),
            embedding=jnp.zeros((n, dimensions), jnp.float32),
            probabilities=jnp.full((n, clusters), 1 / clusters, jnp.float32),
            noise=jnp.zeros(n, bool),
        )
        opt_state = optax.adam(config.learning_rate).init(params)
        return first_state(run_key, cluster, k, params, stats, opt_state)

    return init


def _recluster(config: Config, k: int) -> Refit:
    """Reduce and cluster all latents, on the host; the optimiser loses its past."""

    def update(state: TrainState, latents: np.ndarray) -> TrainState:
        reduced = reducers.reduce(
            latents,
            config.reducer,
            keys.host_seed(state, "reducer"),
            config.dimensions,
            config.neighbours,
        )
        seed = keys.host_seed(state, "clusterer")
        probabilities, noise = cluster_map(config, reduced, k, seed)
        counts = np.bincount(probabilities.argmax(axis=1), minlength=k)[:k]
        usage = (counts / len(latents)).astype(np.float32)
        cluster = ClusterState(latents, reduced, probabilities.astype(np.float32), noise)
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
        mine = jnp.argmax(cluster.probabilities[at.batch.rows], axis=1)
        return config.alpha * triplet + (1 - config.alpha) * error, Aux(stats, terms, mine)

    return loss


def _predict(config: Config, auto: Autoencoder) -> Callable[[TrainState, Array], Prediction]:
    def predict(state: TrainState, images: Array) -> Prediction:
        latent = auto.latent(state.params["network"], state.model_state, images)
        neighbour, _ = kmeans.assign(latent, state.cluster.latents)
        probabilities = state.cluster.probabilities[neighbour]
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
    # Scored after its clustering only: latents move away from those clustered.
    epochs, batches = epochs_or(config.epochs, (10, 350), *sizes), Batches(config.batch_size)
    retraining = [
        Phase(f"retrain{i + 1}", step, epochs, batches, first=recluster, scored=False)
        for i in range(config.iterations)
    ]
    return (pretrain, *retraining, Phase("cluster", None, 0, batches, first=recluster))


def _artifacts(state: TrainState) -> dict[str, Any]:
    return {"map": state.cluster.embedding, "noise": state.cluster.noise}


@recorded("derc")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Autoencoder | Module | None = None,
) -> Method:
    """DERC as pure functions, and its stages on the host.

    An image is given the cluster of the image whose latent is nearest to its own among
    those last clustered: its own, if it was one of them.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: an autoencoder in the named one's place, see :func:`autoencoding.build`.

    Returns:
        A Method whose phases are `pretrain`, `retrain1`, `retrain2`, … and `cluster`.

    Raises:
        InputError: settings without sense, a missing library, or images too small for
            the network.
    """
    settings.check(config)
    reducers.check_reducer(config.reducer, spec.n_images, config.dimensions)
    width = spec.n_clusters if config.latent_width is None else config.latent_width
    config = replace(config, latent_width=width)
    auto = autoencoding.build(config.network, width, spec, compute, network)
    phases = _phases(config, spec, auto, compute.axis_name)
    return Method(_init(config, spec, auto), _predict(config, auto), phases, _artifacts)
