"""CCNN's network and optimiser by its settings, and its output layer's first fit."""

from collections.abc import Callable

import jax
import optax
from jax import Array

from jaxclust.core.types import DataSpec, PyTree
from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.methods.ccnn.ccnn_config import Config, fine_tuning_rate
from jaxclust.models.backbones import AlexNetBackbone, LeNetBackbone
from jaxclust.models.encoders import pretrained
from jaxclust.models.feature_and_output import Body
from jaxclust.models.heads import DenseHead, FlatHead, PooledHead, SalientHead
from jaxclust.models.layers import Module

# Below this height or width AlexNet's first convolution leaves too little.
_SMALL = 64
_ALEXNET_SIZE = 224
# Of the output layer's first fit.
_FIT_STEPS, _FIT_BATCH = 500, 512


def network_body(
    config: Config,
    spec: DataSpec,
    axis_name: str | None = None,
    weights: pretrained.Pretrained | None = None,
) -> tuple[Module, int | None]:
    """The body for a data set, and the side its images are resized to (None: as is)."""
    if weights is not None:
        backbone = weights.network(axis_name)
        return Body(backbone, PooledHead(), config.frozen_statistics), pretrained.SIDE
    name = config.network
    if name == "auto":
        name = "lenet" if min(spec.image_shape[:2]) < _SMALL else "alexnet"
    if name == "lenet":
        backbone, head = LeNetBackbone(axis_name=axis_name), FlatHead(axis_name=axis_name)
        return Body(backbone, head), None
    if name == "alexnet":
        widths = (6144, 2048, spec.n_clusters)
        head = SalientHead(widths, config.dropout, axis_name)
    else:
        head = DenseHead(dropout=config.dropout, axis_name=axis_name)
    return Body(AlexNetBackbone(axis_name), head), _ALEXNET_SIZE


def with_backbone(variables: PyTree, weights: pretrained.Pretrained) -> PyTree:
    """A network's variables with its backbone's taken from a weights file."""
    backbones = {
        name: part["body"]["backbone"] for name, part in variables.items() if "body" in part
    }
    filled = weights.fill(backbones)
    return {
        name: {**part, "body": {**part["body"], "backbone": filled[name]}}
        if name in filled
        else part
        for name, part in variables.items()
    }


def fine_tuning_optimiser(config: Config, n_images: int) -> optax.GradientTransformation:
    """The optimiser of the joint phase, its schedule over the fine-tuning steps."""
    first = fine_tuning_rate(config)
    rate: optax.ScalarOrSchedule = first
    if config.schedule == "cosine":
        batches = -(-n_images // config.batch_size) * config.epochs
        steps = batches // (config.n_m // config.k_m)
        rate = optax.cosine_decay_schedule(first, max(steps, 1))
    if config.optimiser == "adam":
        return optax.adam(rate)
    return optax.sgd(rate, momentum=0.9)


def fit_output(
    key: Array,
    layer: PyTree,
    features: Array,
    targets: Array,
    activate: Callable[[Array], Array],
) -> PyTree:
    """The output layer trained alone to give cluster indices from fixed features.

    Args:
        key: random key, of the rows of each step.
        layer: its `kernel` [d, k] and `bias` [k].
        features: float [n, d].
        targets: cluster indices, int [n].
        activate: logits [b, k] -> outputs [b, k].
    """
    adam = optax.adam(1e-2)

    def one(carry: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], None]:
        layer, opt_state = carry
        rows = jax.random.randint(key, (_FIT_BATCH,), 0, features.shape[0])

        def loss_of(layer: PyTree) -> Array:
            logits = features[rows] @ layer["kernel"] + layer["bias"][None]
            return sum_of_squared_errors(activate(logits), targets[rows])

        updates, opt_state = adam.update(jax.grad(loss_of)(layer), opt_state)
        return (optax.apply_updates(layer, updates), opt_state), None

    keys = jax.random.split(key, _FIT_STEPS)
    return jax.lax.scan(one, (layer, adam.init(layer)), keys)[0][0]
