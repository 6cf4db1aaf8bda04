"""CCNN's network and optimiser by its settings, and its output layer's first fit."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.core.types import Compute, DataSpec, Network, Precision, PyTree
from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.methods.ccnn.ccnn_config import (
    ADAPTATION_WIDTHS,
    Config,
    fine_tuning_rate,
    has_feature_layer,
)
from jaxclust.models.adapter import from_flax
from jaxclust.models.autoencoder import Coded, Decoder
from jaxclust.models.backbones import AlexNetBackbone, LeNetBackbone
from jaxclust.models.encoders import pretrained
from jaxclust.models.feature_and_output import CCNN, Body, Passed
from jaxclust.models.heads import DenseHead, FlatHead, PooledHead, SalientHead
from jaxclust.models.layers import Module

# Below this height or width AlexNet's first convolution leaves too little.
_SMALL = 64
_ALEXNET_SIZE = 224
# Steps and batch size of the output layer's first fit.
_FIT_STEPS, _FIT_BATCH = 500, 512


def network_body(
    config: Config,
    spec: DataSpec,
    axis_name: str | None = None,
    weights: pretrained.Pretrained | None = None,
) -> tuple[Module, int | None]:
    """The body for a data set, and the side its images are resized to (None: as is)."""
    widths = (*(config.adaptation_widths or ADAPTATION_WIDTHS), spec.n_clusters)
    adapted = SalientHead(widths, config.dropout, axis_name)
    if weights is not None:
        head = PooledHead() if config.adaptation_widths is None else adapted
        backbone = weights.network(axis_name)
        return Body(backbone, head, config.frozen_statistics), weights.backbone.side
    name = config.network
    if name == "auto":
        name = "lenet" if min(spec.image_shape[:2]) < _SMALL else "alexnet"
    if name == "lenet":
        backbone, head = LeNetBackbone(axis_name=axis_name), FlatHead(axis_name=axis_name)
        return Body(backbone, head), None
    dense = DenseHead(dropout=config.dropout, axis_name=axis_name)
    head = adapted if name == "alexnet" else dense
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


class Networks(NamedTuple):
    """CCNN's networks as functions."""

    network: Network  # images -> Outputs
    without_dropout: Network  # the same, for the reconstruction
    backbone: Network  # images -> the backbone's map averaged over positions [b, channels]
    decoder: Network  # code -> images
    code_width: int  # of what the decoder is given
    side: int | None  # images are resized to; None: as they are
    weights: pretrained.Pretrained | None  # that the backbone starts from

    def prepare(self, images: Array) -> Array:
        """Images of the size the network wants."""
        if self.side is None or images.shape[1:3] == (self.side, self.side):
            return images
        shape = (images.shape[0], self.side, self.side, images.shape[3])
        return jax.image.resize(images, shape, "bilinear")

    def first(self, key: Array, images: Array) -> tuple[PyTree, PyTree]:
        """(params, other collections) of the network before training."""
        variables = self.network.init(key, images)
        if self.weights is not None:
            variables = with_backbone(variables, self.weights)
        return variables["params"], {c: v for c, v in variables.items() if c != "params"}

    def reconstruct(
        self, params: PyTree, model_state: PyTree, images: Array, key: Array
    ) -> tuple[Coded, PyTree]:
        """The network's code and what the decoder makes of it, in training mode."""
        variables = {"params": params["network"], **model_state["network"]}
        outputs, network_state = self.without_dropout.apply(
            variables, self.prepare(images), train=True, key=key
        )
        variables = {"params": params["decoder"], **model_state["decoder"]}
        decoded, decoder_state = self.decoder.apply(variables, outputs.code, train=True)
        return Coded(outputs.code, decoded), {"network": network_state, "decoder": decoder_state}


def networks_for(
    config: Config,
    spec: DataSpec,
    compute: Compute,
    body: Module | Network | None,
    weights: pretrained.Pretrained | None,
) -> Networks:
    """The networks the settings name, or those around a custom body."""
    precision, k = compute.precision, spec.n_clusters
    width = config.feature_width or (k if has_feature_layer(config) else None)
    heads = (width, k, config.rectify_features, config.normalise_features)
    decoder = from_flax(Decoder(spec.image_shape, axis_name=compute.axis_name), precision)
    if isinstance(body, Network):
        network = around(body, CCNN(Passed(), *heads), precision)
        return Networks(network, network, network, decoder, width or k, None, weights)
    if body is None:
        undropped, _ = network_body(replace(config, dropout=0.0), spec, compute.axis_name, weights)
        body, side = network_body(config, spec, compute.axis_name, weights)
    else:
        undropped, side = body, None
    network, pooled = (
        from_flax(CCNN(body, *heads), precision, m) for m in (None, "backbone_features")
    )
    without_dropout = from_flax(CCNN(undropped, *heads), precision)
    return Networks(network, without_dropout, pooled, decoder, width or k, side, weights)


def around(body: Network, layers: Module, precision: Precision) -> Network:
    """A body of two functions, and Flax layers on its output vector, as one network.

    The body's params lie under `body`, its other collections under `body_` plus their names.
    """
    top = from_flax(layers, precision)

    def init(key: Array, example: Array) -> PyTree:
        body_key, top_key = jax.random.split(key)
        own = body.init(body_key, example)
        vector = jax.eval_shape(lambda v, x: body.apply(v, x, train=False)[0], own, example)
        upper = top.init(top_key, jnp.zeros(vector.shape, vector.dtype))
        rest = {f"body_{name}": value for name, value in own.items() if name != "params"}
        return {"params": {"body": own["params"], **upper["params"]}, **rest}

    def apply(
        variables: PyTree, x: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Any, PyTree]:
        params = dict(variables["params"])
        inner = {n.removeprefix("body_"): v for n, v in variables.items() if n != "params"}
        keyed = {} if key is None else {"key": key}
        vector, rest = body.apply({"params": params.pop("body"), **inner}, x, train=train, **keyed)
        outputs, _ = top.apply({"params": params}, vector, train=train)
        return outputs, {f"body_{name}": value for name, value in rest.items()}

    return Network(init, apply)


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
