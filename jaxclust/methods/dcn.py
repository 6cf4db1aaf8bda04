"""DCN: an autoencoder whose latents are pulled towards k-means centroids (Yang et al. 2017).

Yang, Fu, Sidiropoulos & Hong 2017, "Towards K-means-friendly Spaces". After each network step, the
batch's images are reassigned and their centroids move towards them.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering import kmeans
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
    PyTree,
    Refit,
    Step,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.images.augment import Affine
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.methods.parts import autoencoding, centroids
from jaxclust.methods.parts.autoencoding import Autoencoder
from jaxclust.methods.parts.gradient import Aux, Context, counted, gradient_step
from jaxclust.methods.parts.pretraining import epochs_or, reconstruction_phase
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.layers import Module


@dataclass(frozen=True)
class Config:
    """DCN's settings; the defaults are preset `best`."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int = setting(50, least=0)
    """Epochs of clustering."""
    batch_size: int = setting(256, least=1)
    """Images per step, in pre-training too."""
    network: autoencoding.Name = "dense"
    """dense: DEC's layers, 500, 500 and 2000 wide; the others: see DEC's settings."""
    latent_width: int = setting(10, least=1)
    """Width of the latent that is clustered."""
    pretrain_epochs: int | None = setting(None, least=0)
    """Epochs of reconstruction pre-training; default 50, or on a small data set as many as 1000
    steps need."""
    learning_rate: float = setting(1e-3, above=0)
    """Adam's learning rate, in both phases."""
    clustering_weight: float = setting(0.05, least=0)
    """Weight of the squared distance to the centroid, relative to the mean squared error per
    value."""
    first_count: float = setting(100.0, least=0)
    """Initial count of images each centroid has seen, as in the published code."""


_USUAL = (50, 1000)
PRESETS = {"best": Config(), "paper": replace(Config(), pretrain_epochs=50)}


class ClusterState(NamedTuple):
    """What the latents are pulled towards."""

    kmeans: KMeansState
    assignments: Array  # int32 [n]: of every image, when last seen


@dataclass(frozen=True, eq=False)
class _DCN:
    config: Config
    spec: DataSpec
    auto: Autoencoder
    axis_name: str | None
    adam: optax.GradientTransformation

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        weights, stats = self.auto.first(network_key, images)
        params, k = {"network": weights}, self.spec.n_clusters
        none = centroids.none_yet(k, self.auto.width(weights, stats, images))
        cluster = ClusterState(none, jnp.zeros(self.spec.n_images, jnp.int32))
        return first_state(run_key, cluster, k, params, stats, self.adam.init(params))

    def begin(self, state: TrainState, latents: Array) -> TrainState:
        """Centroids by k-means, and a fresh optimiser state."""
        k = self.spec.n_clusters
        fit = kmeans.fit(keys.of(state, "seeding"), latents, k)
        counts = jnp.full(k, self.config.first_count, jnp.float32)
        cluster = ClusterState(KMeansState(fit.centroids, counts), fit.assignments)
        return state.replace(cluster=cluster, opt_state=self.adam.init(state.params))

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        cluster, images = at.state.cluster, at.batch.images
        coded, stats = self.auto.run(params["network"], at.state.model_state, images, at.key)
        own = cluster.kmeans.centroids[cluster.assignments[at.batch.rows]]
        terms = {
            "clustering_loss": jnp.mean(jnp.sum(jnp.square(coded.latent - own), axis=1)),
            "reconstruction": reconstruction_error(coded.decoded, images, per_pixel=True),
        }
        total = self.config.clustering_weight * terms["clustering_loss"] + terms["reconstruction"]
        return total, Aux(stats, terms)

    def step(self) -> Step:
        """The network's step, then assignments and centroids (the paper's Algorithm 1)."""
        learn = gradient_step(self.loss, self.adam, axis_name=self.axis_name)

        def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
            state, info = learn(state, batch)
            weights, stats = state.params["network"], state.model_state
            latent = self.auto.latent(weights, stats, batch.images)
            # Every device moves all centroids towards the whole batch.
            latent, rows = (
                collectives.gathered(part, self.axis_name) for part in (latent, batch.rows)
            )
            nearest, _ = kmeans.assign(latent, state.cluster.kmeans.centroids)
            cluster = ClusterState(
                kmeans.update(state.cluster.kmeans, latent, nearest),
                state.cluster.assignments.at[rows].set(nearest),
            )
            return counted(state.replace(cluster=cluster), nearest), info

        return step

    def predict(self, state: TrainState, images: Array) -> Prediction:
        latent = self.auto.latent(state.params["network"], state.model_state, images)
        return centroids.judged(latent, state.cluster.kmeans.centroids)

    def phases(self) -> tuple[Phase, ...]:
        """Pre-training, clustering."""
        config = self.config
        pretrain = reconstruction_phase(
            lambda params, stats, images, key: self.auto.run(params["network"], stats, images, key),
            self.adam,
            epochs=epochs_or(config.pretrain_epochs, _USUAL, config.batch_size, self.spec.n_images),
            batch_size=config.batch_size,
            ranges=Affine(),
            axis_name=self.axis_name,
        )
        batches, first = Batches(config.batch_size), Refit(self.begin)
        return (pretrain, Phase("cluster", self.step(), config.epochs, batches, first))


@recorded("dcn")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
    network: Autoencoder | Module | None = None,
) -> Method:
    """DCN on images or features.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: an autoencoder in place of the named one; see :func:`autoencoding.build`.

    Raises:
        InputError: invalid settings, or images too small for the network.
    """
    settings.check(config)
    auto = autoencoding.build(config.network, config.latent_width, spec, compute, network)
    adam = optax.adam(config.learning_rate)
    dcn = _DCN(config, spec, auto, compute.axis_name, adam)
    return Method(
        dcn.init,
        dcn.predict,
        dcn.phases(),
        lambda state: {"centroids": state.cluster.kmeans.centroids},
    )
