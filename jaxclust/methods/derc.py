"""DERC: embedding, reduction, clustering, and retraining on what they say.

Yan et al. 2020. An autoencoder's latents are reduced to two dimensions by t-SNE and
clustered there by a Gaussian mixture; the autoencoder is retrained so that latents of one
cluster attract each other, the more the surer the mixture is, and those of others
repel (Eq. 7), and the round begins again (Algorithm 1).
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxclust.clustering import health, kmeans
from jaxclust.clustering.host import clusterers, mixture, reducers
from jaxclust.core import collectives
from jaxclust.core.errors import InputError
from jaxclust.core.types import (
    Batch,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    PyTree,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.images.augment import Affine
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.losses.triplet import weighted_triplet
from jaxclust.methods.parts import autoencoding, checks
from jaxclust.methods.parts.descent import descend
from jaxclust.methods.parts.pretraining import USUAL, epochs_or, reconstruction_phase
from jaxclust.models.layers import Module

# Clusters DBSCAN may find; what lies in smaller ones counts as noise.
_DENSE_CLUSTERS = 256


@dataclass(frozen=True)
class Config:
    """DERC's settings; the defaults are preset `best`."""

    epochs: int | None = None
    """Passes over the data of each retraining; default 10, of small sets as many as make 350
    steps."""
    iterations: int = 5
    """Rounds of retraining, 1 to 5 in the paper; 0: DERC-R."""
    batch_size: int = 256
    """Images a step, in which triplets are sought."""
    network: autoencoding.Network = "strided"
    """strided: Table II's with padding; strided_valid: without, as printed."""
    latent_width: int | None = None
    """Width of the latent; default the number of clusters (Sec. IV.B)."""
    pretrain_epochs: int | None = None
    """Passes of reconstruction training before; default 30, of small sets as many as make
    1000 steps."""
    pretrain_views: Affine = field(default_factory=lambda: Affine(15.0, 0.1, 0.15, 0.2))
    """Random views pre-training reconstructs."""
    learning_rate: float = 1e-3
    """Adam's, in all phases."""

    reducer: reducers.Reducer = "tsne"
    """What takes latents to few dimensions: tsne, umap, pca or none."""
    dimensions: int = 2
    """How many."""
    neighbours: int = 30
    """t-SNE's perplexity, UMAP's neighbours."""
    clusterer: Literal["gmm", "kmeans", "dbscan"] = "gmm"
    """What clusters there; dbscan finds its own number of clusters."""
    restarts: int = 20
    """Starts of the mixture; the likeliest wins."""
    covariance: mixture.Covariance = "full"
    """Of the mixture: full, tied, diag or spherical."""
    eps: float = 1.0
    """Radius of a DBSCAN neighbourhood, in standard deviations of the reduced latents
    over 50."""
    min_samples: int = 10
    """Images that make such a neighbourhood dense."""

    alpha: float = 0.7
    """Weight of the triplet loss; the reconstruction has 1 - alpha (Eq. 8)."""
    margin: float = 1.0
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
    usage: ArrayLike  # float [k]: running share of each cluster


def check(config: Config, n_images: int) -> None:
    """Raise InputError for settings without sense."""
    reducers.check_reducer(config.reducer, n_images)
    if not 0 <= config.alpha <= 1:
        raise InputError(f"alpha must lie between 0 and 1, not {config.alpha}; set --alpha")
    checks.positive(config, "learning_rate", "eps")
    checks.at_least(config, 1, "dimensions", "neighbours", "min_samples", "batch_size")
    checks.at_least(config, 0, "iterations", "margin")


def choose_triplets(key: Array, classes: Array, valid: Array) -> tuple[Array, Array, Array]:
    """For each sample of a batch another of its class and one of another class.

    Args:
        key: random key.
        classes: pseudo-classes, int [b].
        valid: samples that may be part of a triplet, bool [b].

    Returns:
        (rows of the same class int [b], rows of another int [b], whether both exist
        bool [b]).
    """
    b = classes.shape[0]
    same_key, other_key = jax.random.split(key)
    alike = classes[:, None] == classes[None]
    same = alike & valid[None] & ~jnp.eye(b, dtype=bool)
    other = ~alike & valid[None]

    def draw(key: Array, allowed: Array) -> Array:
        scores = jax.random.uniform(key, (b, b))
        return jnp.argmax(jnp.where(allowed, scores, -1.0), axis=1)

    exists = valid & jnp.any(same, axis=1) & jnp.any(other, axis=1)
    return draw(same_key, same), draw(other_key, other), exists


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
        return np.asarray(mixture.responsibilities(jnp.asarray(x), fitted)), noise
    if config.clusterer == "kmeans":
        fit = kmeans.fit(jax.random.PRNGKey(seed), jnp.asarray(x), k)
        return np.eye(k, dtype=np.float32)[np.asarray(fit.assignments)], noise
    spread = float(x.std()) or 1.0
    found = clusterers.dbscan(x, config.eps * spread / 50, config.min_samples, _DENSE_CLUSTERS)
    noise = found.noise
    reducers.progress.info(
        "DBSCAN found %d clusters and %d images in none (--n-clusters %d is not used)",
        len(np.unique(found.assignments[~noise])), noise.sum(), k,
    )  # fmt: skip
    probabilities = np.eye(_DENSE_CLUSTERS, dtype=np.float32)[found.assignments]
    probabilities[noise] = _unsure(found.assignments[noise], _DENSE_CLUSTERS)
    return probabilities, noise


def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
    network: Module | None = None,
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
    check(config, spec.n_images)
    n, k, axis_name = spec.n_images, spec.n_clusters, compute.axis_name
    width = k if config.latent_width is None else config.latent_width
    config = replace(config, latent_width=width)
    auto = autoencoding.build(config.network, width, spec, compute, network)
    adam = optax.adam(config.learning_rate)
    clusters = _DENSE_CLUSTERS if config.clusterer == "dbscan" else k
    dimensions = {"none": width, "pca": min(config.dimensions, width, n)}.get(
        config.reducer, config.dimensions
    )

    def reconstruct(params: PyTree, stats: PyTree, images: Array, key: Array) -> Any:
        return auto.run(params["network"], stats, images, key)

    def init(key: Array, images: Array) -> TrainState:
        network_key, run_key = jax.random.split(key)
        weights, stats = auto.init(network_key, images)
        params = {"network": weights}
        return first_state(
            key=run_key,
            params=params,
            model_state=stats,
            opt_state=adam.init(params),
            cluster=ClusterState(
                latents=jnp.zeros((n, width)),
                embedding=jnp.zeros((n, dimensions)),
                probabilities=jnp.full((n, clusters), 1 / clusters, jnp.float32),
                noise=jnp.zeros(n, bool),
                usage=health.even_usage(k),
            ),
        )

    def begin(state: TrainState, latents: np.ndarray) -> TrainState:
        """Reduce and cluster all latents; runs on the host."""
        draws = np.random.SeedSequence([*np.asarray(state.key).tolist(), int(state.step)])
        reducer_seed, cluster_seed = (int(seed) % 2**31 for seed in draws.generate_state(2))
        reduced = reducers.reduce(
            latents, config.reducer, reducer_seed, config.dimensions, config.neighbours
        )
        probabilities, noise = cluster_map(config, reduced, k, cluster_seed)
        usage = np.asarray(health.shares(jnp.asarray(probabilities.argmax(axis=1)), clusters))
        cluster = ClusterState(latents, reduced, probabilities.astype(np.float32), noise, usage[:k])
        return state.replace(cluster=cluster, opt_state=adam.init(state.params))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        run_key, triplet_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        cluster = state.cluster
        # Triplets are sought in the whole batch, where devices share one.
        rows = collectives.gathered(batch.rows, axis_name)
        p = cluster.probabilities[rows]
        classes = jnp.argmax(p, axis=1)
        same, other, exists = choose_triplets(triplet_key, classes, ~cluster.noise[rows])
        own = jnp.take_along_axis(p, classes[:, None], axis=1)
        difference = jnp.abs(own - jnp.take_along_axis(p[same], classes[:, None], axis=1))[:, 0]

        def loss_of(params: PyTree) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
            coded, stats = reconstruct(params, state.model_state, batch.images, run_key)
            z = collectives.gathered(coded.latent, axis_name)
            triplet = weighted_triplet(
                z, z[same], z[other], difference, exists, config.margin if config.hinge else None
            )
            error = reconstruction_error(coded.decoded, batch.images, per_pixel=config.per_pixel)
            loss = config.alpha * triplet + (1 - config.alpha) * error
            return loss, (stats, {"triplet": triplet, "reconstruction": error})

        done = descend(adam, loss_of, state, axis_name)
        named = collectives.mean_over_devices(done.aux, axis_name)
        watch = {**named, **done.norms, "triplets": jnp.mean(exists)}
        watch |= health.cluster_health(cluster.usage)
        return done.state.replace(step=state.step + 1), StepInfo(done.loss, watch)

    def predict(state: TrainState, images: Array) -> Prediction:
        latent = auto.latent(state.params["network"], state.model_state, images)
        cluster: Any = state.cluster
        neighbour, _ = kmeans.assign(latent, cluster.latents)
        probabilities = cluster.probabilities[neighbour]
        assignments = jnp.argmax(probabilities, axis=1).astype(jnp.int32)
        return Prediction(assignments, probabilities, latent, {config.clusterer: assignments})

    sizes = (config.batch_size, spec.n_images)
    pretrain = reconstruction_phase(
        reconstruct,
        adam,
        epochs=epochs_or(config.pretrain_epochs, USUAL, *sizes),
        batch_size=config.batch_size,
        ranges=config.pretrain_views,
        axis_name=axis_name,
    )
    last = Phase("cluster", 0, config.batch_size, None, begin, on_host=True)
    # Scored after its clustering only: latents move away from those clustered.
    epochs = epochs_or(config.epochs, (10, 350), *sizes)
    again = last._replace(epochs=epochs, step=step, scored=False)
    retraining = [again._replace(name=f"retrain{i + 1}") for i in range(config.iterations)]
    return Method(init, predict, (pretrain, *retraining, last))
