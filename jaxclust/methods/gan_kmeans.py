"""k-means on a discriminator's pooled layers (Radford, Metz & Chintala 2016; GAN of Chang et al.).

"Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks". A
generator learns to draw images that a discriminator takes for real ones. The discriminator's pooled
layers are the features.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxclust.core import collectives, keys, settings
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
    TrainState,
    first_state,
)
from jaxclust.losses.adversarial import discriminator_bce, generator_bce
from jaxclust.methods.parts import centroids
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import PRETRAIN, epochs_or
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.adapter import collections, from_flax
from jaxclust.models.adversaries import Adversaries


@dataclass(frozen=True)
class Config:
    """Settings of k-means on a discriminator's layers; the defaults are preset `best`."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    pretrain_epochs: int | None = setting(None, least=0)
    """Epochs of training both networks; default 25, or on a small data set as many as 2000 steps
    need."""
    batch_size: int = setting(128, least=2)
    """Images per step, and as many generated ones."""
    learning_rate: float = setting(2e-4, above=0)
    """Adam's learning rate for both networks, with a momentum of 0.5."""
    width: int = setting(32, least=1)
    """Width of the discriminator's first layer and the generator's last but one."""
    latent_width: int = setting(100, least=1)
    """Width of the noise that images are generated from."""


# Epochs, and the least number of steps they must make.
_USUAL = (25, 2000)
PRESETS = {"best": Config(), "paper": Config(pretrain_epochs=25, width=64)}


@dataclass(frozen=True, eq=False)
class _Gan:
    config: Config
    spec: DataSpec
    networks: Network  # images -> (Judged, images)
    judge: Network  # images -> Judged
    generate: Network  # noise -> images
    describe: Network  # images -> features
    adam: optax.GradientTransformation
    axis_name: str | None

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        variables = self.networks.init(network_key, images)
        params, k = {"network": variables["params"]}, self.spec.n_clusters
        shape = jax.eval_shape(
            lambda x: self.describe.apply(variables, x, train=False)[0], images
        ).shape
        cluster, stats = centroids.none_yet(k, shape[1]), collections(variables)
        return first_state(run_key, cluster, k, params, stats, self.adam.init(params))

    def drawn(self, variables: PyTree, at: Context) -> tuple[Array, PyTree]:
        """As many generated images as the batch has, and the collections afterwards."""
        like = jnp.zeros((len(at.places), self.config.latent_width), jnp.float32)
        normal = collectives.normal_rows(at.draw("noise"), like, at.places)
        uniform = lax.erf(normal / jnp.sqrt(jnp.float32(2)))  # between -1 and 1
        return self.generate.apply(variables, uniform, train=True)

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        """Both networks' losses, each a function of its own weights alone.

        So both are trained at once, where the paper trains one after the other.
        """
        weights = params["network"]
        made, stats = self.drawn({"params": weights, **at.state.model_state}, at)
        seen, stats = self.judge.apply({"params": weights, **stats}, at.batch.images, train=True)
        # Batch norm's running statistics are of real images.
        own, _ = self.judge.apply({"params": weights, **stats}, lax.stop_gradient(made), train=True)
        fixed = lax.stop_gradient(weights)
        others, _ = self.judge.apply({"params": fixed, **stats}, made, train=True)
        terms = {
            "discriminator": discriminator_bce(seen.logits, own.logits),
            "generator": generator_bce(others.logits),
        }
        return terms["discriminator"] + terms["generator"], Aux(stats, terms)

    def predict(self, state: TrainState, images: Array) -> Prediction:
        variables = {"params": state.params["network"], **state.model_state}
        features, _ = self.describe.apply(variables, images, train=False)
        return centroids.judged(features, state.cluster.centroids)


@recorded("gan_kmeans")
def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """k-means on the discriminator's layers, for images.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the networks' passes, and the devices' axis.

    Raises:
        InputError: invalid settings, or features in place of images.
    """
    settings.check(config)
    module = Adversaries(spec.image_shape, config.width, config.latent_width, compute.axis_name)
    whole, judge, generate, describe = (
        from_flax(module, compute.precision, use) for use in (None, "judge", "generate", "features")
    )
    adam = optax.adam(config.learning_rate, b1=0.5)
    gan = _Gan(config, spec, whole, judge, generate, describe, adam, compute.axis_name)
    step = gradient_step(gan.loss, adam, axis_name=compute.axis_name)
    epochs = epochs_or(config.pretrain_epochs, _USUAL, config.batch_size, spec.n_images)
    batches = Batches(config.batch_size)
    training = Phase(PRETRAIN, step, epochs, batches, pretrains=True, scored="never")
    return Method(
        gan.init,
        gan.predict,
        (training, centroids.clustering_phase(config.batch_size)),
        lambda state: {"centroids": state.cluster.centroids},
    )
