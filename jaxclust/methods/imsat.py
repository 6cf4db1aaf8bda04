"""IMSAT: information maximisation with self-augmented training (Hu et al. 2017).

Hu, Miyato, Tokui, Matsumoto & Sugiyama 2017, "Learning Discrete Representations via Information
Maximizing Self-Augmented Training". A classifier is trained to be sure of every image, to fill its
clusters evenly, and to keep its prediction when an image changes a little, in the direction that
would change it most. The size of that change is a fraction of the distance to a near neighbour.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering.neighbours import distance_to
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
    Refit,
    TrainState,
    first_state,
)
from jaxclust.losses.adversarial import virtual_adversarial
from jaxclust.losses.entropy import assignment_entropy
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import epochs_or
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.adapter import as_network, collections
from jaxclust.models.layers import Module
from jaxclust.models.perceptron import Perceptron


@dataclass(frozen=True)
class Config:
    """IMSAT's settings; the defaults are the published ones, except for small data sets."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int | None = setting(None, least=0)
    """Epochs; default 50, or on a small data set as many as 2000 steps need."""
    batch_size: int = setting(250, least=2)
    """Images per step, over which clusters should be even."""
    learning_rate: float = setting(2e-3, above=0)
    """Adam's learning rate."""
    widths: tuple[int, ...] = (1200, 1200)
    """Widths of the network's hidden layers."""
    neighbour: int = setting(10, least=1)
    """Which nearest neighbour's distance sets the size of an image's change."""
    radius: float = setting(0.25, least=0)
    """Size of an image's change, as a fraction of that distance."""
    reach: float = setting(16.0, above=0)
    """Step length in the search for the worst direction (xi). The published code has 10, for values
    between -1 and 1; for MNIST's values with unit variance that is 16."""
    power_steps: int = setting(1, least=1)
    """Power-iteration steps of that search."""
    information_weight: float = setting(0.1, least=0)
    """Weight of the entropies, relative to the divergence under change (lambda)."""
    evenness: float = setting(4.0, least=0)
    """Weight of the clusters' entropy, relative to that of an image's assignment (mu)."""


# Epochs, and the least number of steps they must make.
USUAL = (50, 2000)
PRESETS = {"best": Config(), "paper": Config(epochs=USUAL[0])}


class ClusterState(NamedTuple):
    """What is known about each image."""

    radius: Array  # float [n]: length of its change


@dataclass(frozen=True, eq=False)
class _IMSAT:
    config: Config
    spec: DataSpec
    network: Network  # images -> Classified
    axis_name: str | None

    def init(self, key: Array, images: Array) -> TrainState:
        network_key, run_key = keys.pair(key)
        variables = self.network.init(network_key, images)
        stats = collections(variables)
        opt_state = optax.adam(self.config.learning_rate).init(variables["params"])
        cluster = ClusterState(jnp.zeros(self.spec.n_images, jnp.float32))
        return first_state(
            run_key, cluster, self.spec.n_clusters, variables["params"], stats, opt_state
        )

    def look(self, state: TrainState, images: Array) -> TrainState:
        """Set the length of each image's change; images are flat [n, values]."""
        count = min(self.config.neighbour, self.spec.n_images - 1)
        radius = self.config.radius * distance_to(images, count)
        return state.replace(cluster=ClusterState(radius))

    def loss(self, params: PyTree, at: Context) -> tuple[Array, Aux]:
        config, images = self.config, at.batch.images
        variables = {"params": params, **at.state.model_state}

        def logits_of(x: Array) -> Array:
            return self.network.apply(variables, x, train=True)[0].logits

        seen, stats = self.network.apply(variables, images, train=True)
        noise = collectives.normal_rows(at.draw("directions"), images, at.places)
        radius = at.state.cluster.radius[at.batch.rows]
        changed = virtual_adversarial(
            images, seen.logits, noise, radius, logits_of, config.reach, config.power_steps
        )
        q = jax.nn.softmax(collectives.gathered(seen.logits, self.axis_name))
        entropies = assignment_entropy(q, config.evenness)
        terms = {"divergence": changed, "entropies": entropies}
        total = changed + config.information_weight * entropies
        return total, Aux(stats, terms, jnp.argmax(seen.logits, axis=1))

    def predict(self, state: TrainState, images: Array) -> Prediction:
        variables = {"params": state.params, **state.model_state}
        seen, _ = self.network.apply(variables, images, train=False)
        assignments = jnp.argmax(seen.logits, axis=1).astype(jnp.int32)
        q = jax.nn.softmax(seen.logits)
        return Prediction(assignments, q, seen.hidden, {"argmax": assignments})


@recorded("imsat")
def build(
    config: Config,
    spec: DataSpec,
    compute: Compute = Compute(),  # noqa: B008
    network: Network | Module | None = None,
) -> Method:
    """IMSAT on images or features.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of the network's passes, and the devices' axis.
        network: a Flax module (images, train) -> `models.perceptron.Classified` in place of the
            dense one, or a `Network`; its batch norm must know the devices' axis.

    Raises:
        InputError: invalid settings.
    """
    settings.check(config)
    if network is None:
        network = Perceptron(spec.n_clusters, config.widths, compute.axis_name)
    imsat = _IMSAT(config, spec, as_network(network, compute.precision), compute.axis_name)
    step = gradient_step(imsat.loss, optax.adam(config.learning_rate), axis_name=compute.axis_name)
    first = Refit(imsat.look, sees="images")
    epochs = epochs_or(config.epochs, USUAL, config.batch_size, spec.n_images)
    phase = Phase("cluster", step, epochs, Batches(config.batch_size), first)
    return Method(imsat.init, imsat.predict, (phase,))
