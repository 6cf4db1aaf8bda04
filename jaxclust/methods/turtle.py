"""TURTLE: labels that linear classifiers of the features learn easily (Gadetsky et al. 2024).

Gadetsky, Jiang & Brbić 2024, "Let Go of Your Labels with Unsupervised Transfer". A linear layer
gives each image a label. A few steps of a fresh linear classifier on those labels show how easily
they are learned, and the layer is updated so that they become easier, with its classes kept even.
With features of several encoders, each encoder has its own layer and classifier, and an image's
label is the layers' mean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.scipy.special import entr

from jaxclust.core import collectives, keys, settings
from jaxclust.core.errors import InputError
from jaxclust.core.settings import setting
from jaxclust.core.types import (
    Batches,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    PyTree,
    TrainState,
    first_state,
)
from jaxclust.methods.parts.gradient import Aux, Context, gradient_step
from jaxclust.methods.parts.recipe import recorded

# Steps per epoch on a set of one batch, so that an epoch is worth its evaluation.
_IN_A_ROW = 100


@dataclass(frozen=True)
class Config:
    """TURTLE's settings; the defaults are the published ones."""

    starts: int = setting(1, least=1, most=64)
    """Number of starts; one is chosen without labels and trained to the end."""
    epochs: int | None = setting(None, least=0)
    """Epochs, each of a hundred steps on a set of one batch; default as many as `steps` needs."""
    steps: int = setting(6000, least=1)
    """Number of steps if no epochs are given."""
    batch_size: int = setting(10_000, least=2)
    """Images per step."""
    learning_rate: float = setting(1e-3, above=0)
    """Adam's learning rate for the labelling layer."""
    inner_steps: int = setting(10, least=1)
    """Steps of the classifier that learns the labels, a fresh one each time."""
    inner_learning_rate: float = setting(1e-3, above=0)
    """Adam's learning rate for the classifier."""
    entropy_weight: float = setting(10.0, least=0)
    """Weight of the mean label's entropy (gamma of Eq. 12), which keeps classes even."""
    spaces: tuple[int, ...] | None = None
    """Widths of the feature spaces that are concatenated in a row; default: those of the files of
    features:A,B, else one space."""


PRESETS = {"best": Config(), "paper": Config()}


def linear(params: PyTree, x: Array) -> Array:
    """Logits float [b, k] of features [b, d] by a plain linear layer."""
    return jnp.dot(x, params["weight"], precision=jax.lax.Precision.HIGHEST) + params["bias"][None]


def split(x: Array, spaces: tuple[int, ...]) -> list[Array]:
    """Features [b, d], split by feature space."""
    return jnp.split(x, np.cumsum(spaces)[:-1], axis=1)


def class_names(params: PyTree, x: Array) -> Array:
    """Probabilities float [b, k] of features [b, d] by a weight-normed linear layer (Eq. 9)."""
    direction = params["direction"]
    unit = direction / jnp.linalg.norm(direction, axis=0, keepdims=True)
    return jax.nn.softmax(
        linear({"weight": unit * params["scale"][None], "bias": params["bias"]}, x)
    )


def _uniform(key: Array, width: int, k: int) -> PyTree:
    """A linear layer, initialised as in PyTorch."""
    weight, bias = keys.pair(key)
    reach = width**-0.5
    return {
        "weight": jax.random.uniform(weight, (width, k), jnp.float32, -reach, reach),
        "bias": jax.random.uniform(bias, (k,), jnp.float32, -reach, reach),
    }


def classifier(config: Config, key: Array, x: Array, labels: Array) -> PyTree:
    """A linear classifier after its few steps on soft labels float [b, k] (Eq. 13)."""
    first = _uniform(key, x.shape[1], labels.shape[1])
    # One row per class while training: this makes products on CPU four times as fast.
    rows = {**first, "weight": first["weight"].T}
    adam = optax.adam(config.inner_learning_rate)

    def error(rows: PyTree) -> Array:
        logits = linear({**rows, "weight": rows["weight"].T}, x)
        return jnp.mean(optax.softmax_cross_entropy(logits, labels))

    def step(carry: tuple[PyTree, PyTree], _: None) -> tuple[tuple[PyTree, PyTree], None]:
        rows, opt_state = carry
        updates, opt_state = adam.update(jax.grad(error)(rows), opt_state)
        return (optax.apply_updates(rows, updates), opt_state), None

    (rows, _), _ = jax.lax.scan(step, (rows, adam.init(rows)), None, config.inner_steps)
    return {**rows, "weight": rows["weight"].T}


def layers(params: PyTree) -> list[PyTree]:
    """The layer of each space."""
    return [params] if "direction" in params else [params[f"space{i}"] for i in range(len(params))]


def names_of(params: PyTree, x: Array, spaces: tuple[int, ...]) -> Array:
    """Probabilities float [b, k] of features [b, d]: the mean of the layers'."""
    parts = zip(layers(params), split(x, spaces), strict=True)
    return jnp.mean(jnp.stack([class_names(layer, part) for layer, part in parts]), axis=0)


def _loss(
    config: Config, spaces: tuple[int, ...], axis_name: str | None
) -> Callable[..., tuple[Array, Aux]]:
    def loss(params: PyTree, at: Context) -> tuple[Array, Aux]:
        """Eq. 12: the classifier's error minus the weighted entropy of the mean label."""
        # The classifier learns from the whole batch, where devices share one.
        xs = split(collectives.gathered(at.batch.images, axis_name), spaces)
        of_spaces = [class_names(layer, x) for layer, x in zip(layers(params), xs, strict=True)]
        labels = jnp.mean(jnp.stack(of_spaces), axis=0)
        fixed, error, entropy = jax.lax.stop_gradient(labels), jnp.float32(0), jnp.float32(0)
        for i, (x, own) in enumerate(zip(xs, of_spaces, strict=True)):
            learned = classifier(config, at.draw(f"classifier{i or ''}"), x, fixed)
            logits = jax.lax.stop_gradient(linear(learned, x))
            error += jnp.mean(optax.softmax_cross_entropy(logits, labels))
            # At a share of zero the slope would be infinite.
            shares = jnp.maximum(jnp.mean(own, axis=0), jnp.finfo(own.dtype).tiny)
            entropy += jnp.sum(entr(shares))
        mine = jnp.argmax(names_of(params, at.batch.images, spaces), axis=1)
        terms = {"error": error, "label_entropy": entropy}
        return error - config.entropy_weight * entropy, Aux(at.state.model_state, terms, mine)

    return loss


def _predict(spaces: tuple[int, ...]) -> Callable[[TrainState, Array], Prediction]:
    def predict(state: TrainState, x: Array) -> Prediction:
        probabilities = names_of(state.params, x, spaces)
        assignments = jnp.argmax(probabilities, axis=1).astype(jnp.int32)
        return Prediction(assignments, probabilities, x, {"turtle": assignments})

    return predict


def _first_layer(key: Array, width: int, k: int) -> PyTree:
    layer = _uniform(key, width, k)
    scale = jnp.linalg.norm(layer["weight"], axis=0)
    return {"direction": layer["weight"], "scale": scale, "bias": layer["bias"]}


@recorded("turtle")
def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """TURTLE on features [n, d]; there is no network, so precision changes nothing.

    Raises:
        InputError: images in place of features, or invalid settings.
    """
    settings.check(config)
    k, adam = spec.n_clusters, optax.adam(config.learning_rate)
    spaces = config.spaces or (spec.width,)
    if sum(spaces) != spec.width or min(spaces) < 1:
        raise InputError(
            f"‹spaces› {' '.join(map(str, spaces))} must add up to the {spec.width} values of a row"
        )

    def init(key: Array, images: Array) -> TrainState:
        del images
        layer_key, run_key = keys.pair(key)
        if len(spaces) == 1:
            params = _first_layer(layer_key, spec.width, k)
        else:
            each = jax.random.split(layer_key, len(spaces))
            firsts = (_first_layer(*one, k) for one in zip(each, spaces, strict=True))
            params = {f"space{i}": layer for i, layer in enumerate(firsts)}
        return first_state(run_key, (), k, params, opt_state=adam.init(params))

    batches = -(-spec.n_images // config.batch_size)
    repeats = _IN_A_ROW if batches == 1 else 1
    epochs = -(-config.steps // (batches * repeats)) if config.epochs is None else config.epochs
    loss = _loss(config, spaces, compute.axis_name)
    step = gradient_step(loss, adam, axis_name=compute.axis_name)
    phase = Phase("cluster", step, epochs, Batches(config.batch_size, repeats))
    return Method(init, _predict(spaces), (phase,), learned_from_features=True)
