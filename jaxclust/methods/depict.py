"""DEPICT: joint denoising autoencoder and balanced soft clustering (Dizaji et al. 2017).

Dizaji, Herandi, Deng, Cai & Huang 2017, "Deep Clustering via Joint Convolutional Autoencoder
Embedding and Relative Entropy Minimization". A softmax layer on an autoencoder's latents predicts
clusters for noisy images. Its targets are its own predictions for the clean images, sharpened and
weighted against large clusters, while the autoencoder keeps denoising at every layer.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxclust.clustering import kmeans
from jaxclust.clustering.host import graph_merging
from jaxclust.core import keys, settings
from jaxclust.core.settings import setting
from jaxclust.core.types import (
    Batches,
    Compute,
    DataSpec,
    Method,
    Network,
    Phase,
    Prediction,
    PyTree,
    Refit,
    TrainState,
    first_state,
)
from jaxclust.losses.dec import target_distribution
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import PRETRAIN, epochs_or
from jaxclust.methods.parts.recipe import recorded
from jaxclust.methods.parts.value_range import LOOK, around_grey, unknown
from jaxclust.models.adapter import from_flax
from jaxclust.models.denoising import DenoisingAutoencoder, Repaired
from jaxclust.models.layers import Module

# On larger sets, merging a neighbour graph takes longer than training.
_MOST_MERGED = 20_000


@dataclass(frozen=True)
class Config:
    """DEPICT's settings; the defaults are preset `best`."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int | None = setting(None, least=0)
    """Maximum epochs; default 50, or on a small data set as many as 4000 steps need."""
    batch_size: int = setting(100, least=1)
    """Images per step."""
    latent_width: int | None = setting(None, least=1)
    """Width of the latent; default the number of clusters."""
    pretrain_epochs: int | None = setting(None, least=0)
    """Epochs of denoising alone; default 50, or on a small data set as many as 18,600 steps need
    (200 epochs of USPS)."""
    start_epochs: int = setting(10, least=0)
    """Epochs in which the softmax layer learns the first clusters."""
    start: Literal["auto", "kmeans", "ac_pic"] = "auto"
    """How the first clusters are found in the latents: k-means, or agglomeration by path integrals;
    auto: the latter for up to 20,000 images."""
    outlier_share: float = setting(0.1, least=0, most=0.5)
    """Agglomerated clusters of fewer images than this share of the mean are outliers, which join
    the nearest cluster; 0: there are none, as in the published code."""
    learning_rate: float = setting(1e-3, above=0)
    """Adam's learning rate, until the first clusters are learnt."""
    cluster_learning_rate: float = setting(1e-4, above=0)
    """Adam's learning rate from then on. A higher one keeps moving images to small clusters."""
    reconstruction_weight: float = setting(1.0, least=0)
    """Weight of the denoising error, relative to the clusters' cross-entropy."""
    targets: Literal["root", "square"] = "square"
    """root: a prediction over the root of its cluster's size (the paper's Eq. 6); square: its
    square over the size, as in the published code."""
    tolerance: float = setting(1e-7, least=0)
    """Training ends once the mean squared change of the targets over an epoch is below this."""


# Epochs, and the least number of steps they must make.
_PRETRAINING, _CLUSTERING = (50, 18_600), (50, 4000)
_PAPER = Config(
    outlier_share=0.0, learning_rate=1e-4, pretrain_epochs=1000, epochs=1000, targets="root"
)
PRESETS = {
    "best": Config(),
    # In the paper these epochs only bound early stopping, by images held out by label.
    "paper": _PAPER,
    "reference": replace(_PAPER, targets="square"),
    # Many clusters of one size, which balanced targets tell apart further, after epochs in which
    # they hardly move.
    "faces": Config(cluster_learning_rate=1e-3, tolerance=0.0),
}
_FORMS = {"root": (1.0, 0.5), "square": (2.0, 1.0)}


class ClusterState(NamedTuple):
    """What the softmax layer should predict."""

    targets: Array  # float [n, k]
    moved: Array  # float []: their mean squared change when last computed


def answers(params: PyTree, latent: Array) -> Array:
    """Logits float [b, k] of latents [b, d]."""
    head = params["head"]
    return jnp.dot(latent, head["kernel"]) + head["bias"][None]


@dataclass(frozen=True, eq=False)
class _DEPICT:
    config: Config
    spec: DataSpec
    width: int
    whole: Network  # images -> Repaired
    encoder: Network  # images -> latent, of the whole's variables; both see values from -1 to 1
    adam: optax.GradientTransformation  # until the first clusters are learnt
    cluster_adam: optax.GradientTransformation

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        n, k = self.spec.n_images, self.spec.n_clusters
        blank = jnp.zeros((self.width, k), jnp.float32)
        params = {
            "network": self.whole.init(network_key, images)["params"],
            "head": {"kernel": blank, "bias": jnp.zeros(k, jnp.float32)},
        }
        cluster = ClusterState(jnp.full((n, k), 1 / k, jnp.float32), jnp.ones((), jnp.float32))
        ranges = unknown(images.shape[-1])
        return first_state(run_key, cluster, k, params, ranges, self.adam.init(params))

    def first_clusters(self, state: TrainState, latents: np.ndarray) -> np.ndarray:
        k, seeding = self.spec.n_clusters, keys.of(state, "seeding")
        merged = self.config.start == "ac_pic"
        if self.config.start == "auto":
            merged = self.spec.n_images <= _MOST_MERGED
        if merged:
            return graph_merging.path_integral(latents, k, outlier_share=self.config.outlier_share)
        return np.asarray(kmeans.fit(seeding, jnp.asarray(latents), k).assignments)

    def begin(self, state: TrainState, latents: np.ndarray) -> TrainState:
        """Start the head from the directions of the first clusters, which are its targets."""
        k = self.spec.n_clusters
        targets = np.eye(k, dtype=np.float32)[self.first_clusters(state, latents)]
        centroids = targets.T @ latents / np.maximum(targets.sum(axis=0), 1)[:, None]
        lengths = np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-12)
        head = {"kernel": (centroids / lengths).T.astype(np.float32), "bias": np.zeros(k, "f4")}
        params = {**state.params, "head": head}
        cluster = ClusterState(jnp.asarray(targets), jnp.ones((), jnp.float32))
        return state.replace(params=params, opt_state=self.adam.init(params), cluster=cluster)

    def retarget(self, state: TrainState, latents: Array) -> TrainState:
        q = jax.nn.softmax(answers(state.params, latents))
        targets = target_distribution(q, *_FORMS[self.config.targets])
        moved = jnp.mean(jnp.square(targets - state.cluster.targets))
        return state.replace(cluster=ClusterState(targets, moved))

    def settle(self, state: TrainState, latents: Array) -> TrainState:
        """The first soft targets, and a fresh optimiser state."""
        state = self.retarget(state, latents)
        cluster = state.cluster._replace(moved=jnp.ones((), jnp.float32))
        return state.replace(cluster=cluster, opt_state=self.cluster_adam.init(state.params))

    def noised(self, params: PyTree, at: Context) -> Repaired:
        variables = {"params": params["network"]}
        images = around_grey(at.batch.images, at.state.model_state)
        return self.whole.apply(variables, images, train=True, key=at.key)[0]

    def repair(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        error = jnp.mean(self.noised(params, at).errors)
        return error, Aux(at.state.model_state, {"reconstruction": error})

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        seen = self.noised(params, at)
        logits, error = answers(params, seen.latent), jnp.mean(seen.errors)
        targets = at.state.cluster.targets[at.batch.rows]
        clustering = jnp.mean(optax.softmax_cross_entropy(logits, targets))
        total = clustering + self.config.reconstruction_weight * error
        terms = {"clustering_loss": clustering, "reconstruction": error}
        terms["targets_moved"] = at.state.cluster.moved
        return total, Aux(at.state.model_state, terms, jnp.argmax(logits, axis=1))

    def predict(self, state: TrainState, images: Array) -> Prediction:
        variables = {"params": state.params["network"]}
        seen = around_grey(images, state.model_state)
        latent, _ = self.encoder.apply(variables, seen, train=False)
        q = jax.nn.softmax(answers(state.params, latent))
        assignments = jnp.argmax(q, axis=1).astype(jnp.int32)
        return Prediction(assignments, q, latent, {"argmax": assignments})

    def phases(self, axis_name: str | None) -> tuple[Phase, ...]:
        """Denoising alone; the head learns the first clusters; both train on their own targets."""
        config = self.config
        batches, sizes = Batches(config.batch_size), (config.batch_size, self.spec.n_images)
        repair = gradient_step(self.repair, self.adam, axis_name=axis_name)
        start = gradient_step(self.loss, self.adam, axis_name=axis_name)
        step = gradient_step(self.loss, self.cluster_adam, axis_name=axis_name)
        epochs = epochs_or(config.pretrain_epochs, _PRETRAINING, *sizes)
        return (
            Phase(PRETRAIN, repair, epochs, batches, LOOK, pretrains=True, scored="never"),
            Phase("start", start, config.start_epochs, batches, Refit(self.begin, "host")),
            Phase(
                "cluster",
                step,
                epochs_or(config.epochs, _CLUSTERING, *sizes),
                batches,
                first=Refit(self.settle),
                between=Refit(self.retarget),
                until=lambda state: state.cluster.moved < config.tolerance,
            ),
        )


@recorded("depict")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
    network: Module | None = None,
) -> Method:
    """DEPICT on images.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: a Flax module (images, train) -> `models.denoising.Repaired` with a method
            `encode`, in place of the paper's. Its images have values between -1 and 1.

    Raises:
        InputError: invalid settings, or features in place of images.
    """
    settings.check(config)
    width = spec.n_clusters if config.latent_width is None else config.latent_width
    if network is None:
        network = DenoisingAutoencoder(spec.image_shape, width, axis_name=compute.axis_name)
    whole, encoder = (from_flax(network, compute.precision, how) for how in (None, "encode"))
    rates = (config.learning_rate, config.cluster_learning_rate)
    depict = _DEPICT(config, spec, width, whole, encoder, *map(optax.adam, rates))
    return Method(depict.init, depict.predict, depict.phases(compute.axis_name))
