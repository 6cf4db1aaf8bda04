"""VaDE: variational deep embedding (Jiang, Zheng, Tan, Tang & Zhou 2017).

A variational autoencoder whose prior is a Gaussian mixture, one component per cluster, trained on
the evidence lower bound. The mixture is first fitted to a plain autoencoder's latents.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxclust.clustering.host import mixture
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
from jaxclust.images.augment import Affine
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import reconstruction_phase
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.adapter import from_flax
from jaxclust.models.autoencoder import DenseVariational


@dataclass(frozen=True)
class Config:
    """VaDE's settings; the defaults are preset `best`."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int = setting(100, least=0)
    """Epochs of training on the evidence lower bound."""
    batch_size: int = setting(100, least=1)
    """Images per step."""
    latent_width: int = setting(10, least=1)
    """Width of the latent."""
    pretrain_epochs: int = setting(50, least=0)
    """Epochs of plain reconstruction pre-training."""
    learning_rate: float = setting(2e-3, above=0)
    """Adam's learning rate at the start of both phases; multiplied by 0.9 every ten epochs."""
    decoder_variance: float = setting(0.1, above=0)
    """Variance of the Gaussian around a decoded value; images have unit variance."""
    restarts: int = setting(20, least=1)
    """Starts of the first mixture; the likeliest wins."""


PRESETS = {"best": Config(), "paper": Config(epochs=300)}


def joint(z: Array, prior: PyTree) -> Array:
    """log p(z, c) [b, k] of latents [b, d] under the mixture (Eqs. 1-2)."""
    squares = jnp.square(z[:, None] - prior["means"][None]) / jnp.exp(prior["log_variance"])[None]
    constant = jnp.log(2 * jnp.pi) + prior["log_variance"][None]
    return jax.nn.log_softmax(prior["weights"])[None] - 0.5 * jnp.sum(squares + constant, axis=2)


def divergence(mean: Array, log_variance: Array, z: Array, prior: PyTree) -> Array:
    """The bound's terms besides the reconstruction (Eq. 12), for each image -> float [b]."""
    log_gamma = jax.nn.log_softmax(joint(z, prior))
    distance = jnp.square(mean[:, None] - prior["means"][None]) + jnp.exp(log_variance)[:, None]
    spread = prior["log_variance"][None]
    energy = 0.5 * jnp.sum(spread + distance / jnp.exp(spread), axis=2)
    weights = jax.nn.log_softmax(prior["weights"])[None]
    own = 0.5 * jnp.sum(1 + log_variance, axis=1)
    return jnp.sum(jnp.exp(log_gamma) * (energy + log_gamma - weights), axis=1) - own


@dataclass(frozen=True, eq=False)
class _VaDE:
    config: Config
    k: int
    network: Network  # images -> Sampled
    adam: optax.GradientTransformation

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        blank = jnp.zeros((self.k, self.config.latent_width), jnp.float32)
        prior = {"weights": blank[:, 0], "means": blank, "log_variance": blank}
        params = {"network": self.network.init(network_key, images)["params"], "prior": prior}
        return first_state(run_key, (), self.k, params, opt_state=self.adam.init(params))

    def fit_mixture(self, state: TrainState, latents: np.ndarray) -> TrainState:
        seed, n = keys.host_seed(state, "mixture"), self.config.restarts
        found: Any = mixture.fit(latents, self.k, seed, covariance="diag", restarts=n)
        spread = -2 * np.log(np.diagonal(found.factors, axis1=1, axis2=2))
        prior = {"weights": np.log(found.weights), "means": found.means, "log_variance": spread}
        # First posteriors wider than the clusters would wash them out.
        head = jax.tree.map(jnp.zeros_like, state.params["network"]["to_log_variance"])
        head["bias"] += spread.mean(axis=0) - 2
        network = {**state.params["network"], "to_log_variance": head}
        params = {"network": network, "prior": jax.tree.map(jnp.float32, prior)}
        return state.replace(params=params, opt_state=self.adam.init(params))

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        images, variables = at.batch.images, {"params": params["network"]}
        seen, stats = self.network.apply(variables, images, train=True, key=at.key)
        error = reconstruction_error(seen.decoded, images) / (2 * self.config.decoder_variance)
        prior = jnp.mean(divergence(seen.mean, seen.log_variance, seen.sample, params["prior"]))
        assignments = jnp.argmax(joint(seen.mean, params["prior"]), axis=1)
        return error + prior, Aux(stats, {"reconstruction": error, "prior": prior}, assignments)

    def predict(self, state: TrainState, images: Array) -> Prediction:
        seen, _ = self.network.apply({"params": state.params["network"]}, images, train=False)
        gamma = jax.nn.softmax(joint(seen.mean, state.params["prior"]))
        assignments = jnp.argmax(gamma, axis=1).astype(jnp.int32)
        return Prediction(assignments, gamma, seen.mean, {"component": assignments})

    def artifacts(self, state: TrainState) -> dict[str, Any]:
        return {"centroids": state.params["prior"]["means"]}


@recorded("vade")
def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """VaDE with a Gaussian decoder of unit variance; takes features too."""
    settings.check(config)
    module = DenseVariational(spec.shape, config.latent_width, axis_name=compute.axis_name)
    # The plain autoencoder has the same variables.
    network, plain = (from_flax(module, compute.precision, of) for of in (None, "reconstruct"))
    an_epoch = -(-spec.n_images // min(config.batch_size, spec.n_images))
    rate = optax.exponential_decay(config.learning_rate, 10 * an_epoch, 0.9, staircase=True)
    adam = optax.adam(rate)
    vade = _VaDE(config, spec.n_clusters, network, adam)
    pretrain = reconstruction_phase(
        lambda p, stats, x, key: plain.apply({"params": p["network"]}, x, train=True, key=key),
        adam,
        epochs=config.pretrain_epochs,
        batch_size=config.batch_size,
        ranges=Affine(),
        axis_name=compute.axis_name,
    )
    step = gradient_step(vade.loss, adam, axis_name=compute.axis_name)
    batches, first = Batches(config.batch_size), Refit(vade.fit_mixture, "host")
    cluster = Phase("cluster", step, config.epochs, batches, first)
    return Method(vade.init, vade.predict, (pretrain, cluster), vade.artifacts)
