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
from jaxclust.losses.mixture_prior import mixture_divergence, mixture_log_density
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.likelihood import Decoder, Likelihood
from jaxclust.methods.parts.pretraining import reconstruction_phase
from jaxclust.methods.parts.recipe import recorded
from jaxclust.methods.parts.value_range import Range, unknown
from jaxclust.models.adapter import from_flax
from jaxclust.models.autoencoder import Coded, DenseVariational


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
    """Adam's learning rate at the start of both phases; multiplied by 0.9 every ten epochs, down to
    a tenth of it."""
    decoder: Decoder = "auto"
    """Distribution of a decoded value. bernoulli: between the darkest and the lightest, as in the
    published code for MNIST; auto: that for images, gaussian for features."""
    decoder_variance: float = setting(0.1, above=0)
    """Variance of a Gaussian decoder; images have unit variance."""
    restarts: int = setting(20, least=1)
    """Starts of the first mixture; the likeliest wins."""


PRESETS = {"best": Config(), "paper": Config(epochs=300)}


@dataclass(frozen=True, eq=False)
class _VaDE:
    config: Config
    k: int
    network: Network  # images -> Sampled
    plain: Network  # images -> Coded, with the same variables
    likelihood: Likelihood
    adam: optax.GradientTransformation

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        blank = jnp.zeros((self.k, self.config.latent_width), jnp.float32)
        prior = {"logits": blank[:, 0], "means": blank, "log_variances": blank}
        params = {"network": self.network.init(network_key, images)["params"], "prior": prior}
        ranges = unknown(images.shape[-1])
        return first_state(run_key, (), self.k, params, ranges, self.adam.init(params))

    def decode(self, params: PyTree, ranges: Range, x: Array, key: Array) -> tuple[Coded, Range]:
        coded: Coded
        coded, _ = self.plain.apply({"params": params["network"]}, x, train=True, key=key)
        decoded = self.likelihood.mean(coded.decoded, ranges)
        return coded._replace(decoded=decoded), ranges

    def fit_mixture(self, state: TrainState, latents: np.ndarray) -> TrainState:
        seed, n = keys.host_seed(state, "mixture"), self.config.restarts
        found: Any = mixture.fit(latents, self.k, seed, covariance="diag", restarts=n)
        spread = -2 * np.log(np.diagonal(found.factors, axis1=1, axis2=2))
        prior = {"logits": np.log(found.weights), "means": found.means, "log_variances": spread}
        # First posteriors wider than the clusters would wash them out.
        head = jax.tree.map(jnp.zeros_like, state.params["network"]["to_log_variance"])
        head["bias"] += spread.mean(axis=0) - 2
        network = {**state.params["network"], "to_log_variance": head}
        params = {"network": network, "prior": jax.tree.map(jnp.float32, prior)}
        return state.replace(params=params, opt_state=self.adam.init(params))

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        ranges, variables = at.state.model_state, {"params": params["network"]}
        seen, _ = self.network.apply(variables, at.batch.images, train=True, key=at.key)
        error = self.likelihood.error(seen.decoded, at.batch.images, ranges)
        posterior, prior = (seen.mean, seen.log_variance, seen.sample), params["prior"]
        apart = jnp.mean(mixture_divergence(*posterior, **prior))
        assignments = jnp.argmax(mixture_log_density(seen.mean, **prior), axis=1)
        return error + apart, Aux(ranges, {"reconstruction": error, "prior": apart}, assignments)

    def predict(self, state: TrainState, images: Array) -> Prediction:
        seen, _ = self.network.apply({"params": state.params["network"]}, images, train=False)
        gamma = jax.nn.softmax(mixture_log_density(seen.mean, **state.params["prior"]))
        assignments = jnp.argmax(gamma, axis=1).astype(jnp.int32)
        return Prediction(assignments, gamma, seen.mean, {"component": assignments})

    def artifacts(self, state: TrainState) -> dict[str, Any]:
        return {"centroids": state.params["prior"]["means"]}


@recorded("vade")
def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """VaDE; takes features too."""
    settings.check(config)
    module = DenseVariational(spec.shape, config.latent_width, axis_name=compute.axis_name)
    network, plain = (from_flax(module, compute.precision, of) for of in (None, "reconstruct"))
    an_epoch = -(-spec.n_images // min(config.batch_size, spec.n_images))
    rate = config.learning_rate
    decay = optax.exponential_decay(rate, 10 * an_epoch, 0.9, staircase=True, end_value=rate / 10)
    adam = optax.adam(decay)
    likelihood = Likelihood.of(config.decoder, config.decoder_variance, spec)
    vade = _VaDE(config, spec.n_clusters, network, plain, likelihood, adam)
    pretrain = reconstruction_phase(
        vade.decode,
        adam,
        epochs=config.pretrain_epochs,
        batch_size=config.batch_size,
        ranges=Affine(),
        axis_name=compute.axis_name,
    )
    pretrain = pretrain._replace(first=likelihood.first())
    step = gradient_step(vade.loss, adam, axis_name=compute.axis_name)
    batches, begin = Batches(config.batch_size), Refit(vade.fit_mixture, "host")
    cluster = Phase("cluster", step, config.epochs, batches, begin)
    return Method(vade.init, vade.predict, (pretrain, cluster), vade.artifacts)
