"""TEMI: heads on features, trained so that neighbours share clusters (Adaloglou et al. 2023).

Adaloglou, Michels, Kalisch & Kollmann 2023, "Exploring the Limits of Deep Image Clustering using
Pretrained Models". Several small networks (heads) each predict a cluster for an image and for one
of its nearest neighbours. They are trained to raise the mutual information of the two, with a
teacher that follows them slowly and pairs weighted by how far all heads agree. The head with the
least loss is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering.neighbours import nearest
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
    Rows,
    Step,
    StepInfo,
    TrainState,
    first_state,
)
from jaxclust.losses.temi import neighbour_information
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.pretraining import epochs_or
from jaxclust.methods.parts.recipe import recorded

# Fraction of a head's running loss that each step keeps.
_REMEMBERED = 0.95
_SHARES = 0.9  # and of the clusters' running shares


@dataclass(frozen=True)
class Config:
    """TEMI's settings; the defaults are the published ones, except for batches and small sets."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int | None = setting(None, least=0)
    """Epochs; default 100, or on a small data set as many as 2000 steps need."""
    batch_size: int = setting(256, least=2)
    """Images per step, each with a neighbour."""
    learning_rate: float = setting(1e-4, above=0)
    """AdamW's learning rate, after its warm-up; the published one for batches of 256."""
    warmup_epochs: int | None = setting(None, least=0)
    """Epochs in which it grows from zero; default a fifth of all epochs."""
    weight_decay: float = setting(1e-4, least=0)
    """AdamW's weight decay, of the heads' weights."""
    neighbours: int | None = setting(None, least=1)
    """Nearest neighbours of each image, of which each step draws one; default 50, or on a small
    data set half of an even cluster's images, since more would be of other clusters."""
    heads: int = setting(16, least=1)
    """Number of heads trained side by side; one is kept."""
    hidden_width: int = setting(512, least=1)
    """Width of a head's hidden layer."""
    bottleneck: int = setting(256, least=1)
    """Width of a head's last but one layer, whose values are normalised."""
    temperature: float = setting(0.1, above=0)
    """Temperature of the softmax over clusters."""
    beta: float = setting(0.6, above=0)
    """Below 1, larger clusters gain less (Eq. 7)."""
    momentum: float = setting(0.996, least=0, most=1)
    """Fraction of the teacher that each step keeps."""


# Epochs, and the least number of steps: 100 epochs on 500 images move the heads too little.
USUAL = (100, 2000)
_NEIGHBOURS = 50
PRESETS = {
    "best": Config(),
    "paper": Config(epochs=USUAL[0], neighbours=_NEIGHBOURS, batch_size=1024, learning_rate=4e-4),
}


class ClusterState(NamedTuple):
    """What is not trained by gradients; h heads."""

    teacher: PyTree  # parameters like the trained ones
    neighbours: Array  # int32 [n, m]


class Running(NamedTuple):
    """Averages over the last steps."""

    shares: Array  # float [h, k], of the clusters
    losses: Array  # float [h]


def first_head(key: Array, width: int, k: int, config: Config) -> PyTree:
    """Parameters of one head."""
    hidden_key, middle_key, last_key = jax.random.split(key, 3)
    normal = jax.nn.initializers.truncated_normal(0.02)
    reach = config.bottleneck**-0.5
    sizes = (width, config.hidden_width, config.bottleneck)
    return {
        "hidden": normal(hidden_key, sizes[:2], jnp.float32),
        "hidden_bias": jnp.zeros(sizes[1], jnp.float32),
        "middle": normal(middle_key, sizes[1:], jnp.float32),
        "middle_bias": jnp.zeros(sizes[2], jnp.float32),
        "last": jax.random.uniform(last_key, (sizes[2], k), jnp.float32, -reach, reach),
        "scale": jnp.ones(k, jnp.float32),
    }


def probabilities(params: PyTree, x: Array, temperature: float) -> Array:
    """Cluster probabilities float [b, k] of features [b, d] by one head."""
    hidden = jax.nn.gelu(x @ params["hidden"] + params["hidden_bias"][None], approximate=False)
    middle = hidden @ params["middle"] + params["middle_bias"][None]
    middle /= jnp.maximum(jnp.linalg.norm(middle, axis=1, keepdims=True), 1e-12)
    last = params["last"] / jnp.linalg.norm(params["last"], axis=0, keepdims=True)
    return jax.nn.softmax((middle @ last) * params["scale"][None] / temperature)


def _loss(config: Config, frozen_steps: int, axis_name: str | None) -> Callable[..., tuple]:
    """Eq. 8 of all heads, each pair seen from both sides."""

    def named(params: PyTree, pairs: Array) -> list[Array]:
        # One product for both sides of the pairs: two of half the size take longer on CPU.
        one = jax.vmap(lambda head: probabilities(head, pairs, config.temperature))
        return jnp.split(one(params), 2, axis=1)

    def loss(params: PyTree, at: Context) -> tuple[Array, Aux]:
        held = jax.lax.stop_gradient({name: params[name] for name in ("last", "scale")})
        early = at.state.step < frozen_steps
        moving = {n: jnp.where(early, held[n], params[n]) for n in held}
        params = {**params, **moving}
        running: Running = at.state.model_state
        pairs = jnp.concatenate([at.batch.images, at.batch.extra])
        q, q_other = named(params, pairs)
        p, p_other = named(at.state.cluster.teacher, pairs)
        now = collectives.mean_over_devices((p.mean(axis=1) + p_other.mean(axis=1)) / 2, axis_name)
        shares = _SHARES * running.shares + (1 - _SHARES) * now
        weights = jnp.sum(p * p_other, axis=2).mean(axis=0)

        def of_head(q: Array, q_other: Array, p: Array, p_other: Array, shares: Array) -> Array:
            one = neighbour_information(q, p_other, shares, weights, config.beta)
            two = neighbour_information(q_other, p, shares, weights, config.beta)
            return (one + two) / 2

        losses = jax.vmap(of_head)(q, q_other, p, p_other, shares)
        seen = collectives.mean_over_devices(jax.lax.stop_gradient(losses), axis_name)
        running = Running(shares, _REMEMBERED * running.losses + (1 - _REMEMBERED) * seen)
        best = jnp.argmin(running.losses)
        terms = {"least_loss": jnp.min(seen), "agreement": weights.mean()}
        return losses.mean(), Aux(running, terms, jnp.argmax(p[best], axis=1))

    return loss


def _step(config: Config, inner: Step) -> Step:
    """A step after which the teacher follows."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        after, info = inner(state, batch)
        m = config.momentum
        follow = jax.tree.map(lambda t, s: m * t + (1 - m) * s, state.cluster.teacher, after.params)
        return after.replace(cluster=after.cluster._replace(teacher=follow)), info

    return step


def _optimiser(config: Config, epochs: int, an_epoch: int) -> optax.GradientTransformation:
    rate: Any = config.learning_rate
    warmup = epochs // 5 if config.warmup_epochs is None else config.warmup_epochs
    if warmup:
        steps = warmup * an_epoch
        rate = optax.schedules.warmup_constant_schedule(0.0, config.learning_rate, steps)
    # Heads lie along the first axis; a leaf with two more axes is a weight.
    return optax.adamw(
        rate,
        weight_decay=config.weight_decay,
        mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim == 3, params),
    )


def _count(config: Config, spec: DataSpec) -> int:
    """Number of neighbours of each image."""
    of_its_kind = max(1, spec.n_images // (2 * spec.n_clusters))
    return min(config.neighbours or min(_NEIGHBOURS, of_its_kind), spec.n_images - 1)


def _neighbour(state: TrainState, rows: Array) -> Rows:
    """A neighbour of each row, drawn at random."""
    neighbours, key = state.cluster.neighbours, keys.of(state, "extra")
    place = jax.vmap(lambda row: keys.of_row(key, row))(rows)
    chosen = jax.vmap(lambda k: jax.random.randint(k, (), 0, neighbours.shape[1]))(place)
    return Rows(neighbours[rows, chosen])


@recorded("temi")
def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """TEMI on features [n, d], held in memory; its heads are computed in float32.

    Raises:
        InputError: images in place of features, or invalid settings.
    """
    settings.check(config)
    width, k, n = spec.width, spec.n_clusters, spec.n_images
    count, an_epoch = _count(config, spec), -(-n // min(config.batch_size, n))
    epochs = epochs_or(config.epochs, USUAL, config.batch_size, n)
    adamw = _optimiser(config, epochs, an_epoch)

    def init(key: Array, images: Array) -> TrainState:
        del images
        heads_key, run_key = keys.pair(key)
        split = jax.random.split(heads_key, config.heads)
        params = jax.vmap(lambda key: first_head(key, width, k, config))(split)
        running = Running(
            jnp.full((config.heads, k), 1 / k, jnp.float32), jnp.zeros(config.heads, jnp.float32)
        )
        cluster = ClusterState(params, jnp.zeros((n, count), jnp.int32))
        return first_state(run_key, cluster, k, params, running, adamw.init(params))

    def look(state: TrainState, features: Array) -> TrainState:
        found = nearest(features, count).rows
        return state.replace(cluster=state.cluster._replace(neighbours=found))

    def predict(state: TrainState, x: Array) -> Prediction:
        best = jnp.argmin(state.model_state.losses)
        head = jax.tree.map(lambda leaf: leaf[best], state.cluster.teacher)
        found = probabilities(head, x, config.temperature)
        assignments = jnp.argmax(found, axis=1).astype(jnp.int32)
        return Prediction(assignments, found, x, {"temi": assignments})

    inner = gradient_step(
        _loss(config, an_epoch, compute.axis_name), adamw, axis_name=compute.axis_name
    )
    batches = Batches(config.batch_size, extra=_neighbour)
    phase = Phase("cluster", _step(config, inner), epochs, batches, first=Refit(look))
    return Method(init, predict, (phase,), learned_from_features=True)
