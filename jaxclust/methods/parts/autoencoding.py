"""An autoencoder as pure functions, for the methods that cluster its latents."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core.errors import InputError
from jaxclust.core.types import Compute, DataSpec, PyTree
from jaxclust.models import precision
from jaxclust.models.autoencoder import NETWORKS, Coded
from jaxclust.models.layers import Module

Network = Literal["shallow", "deep", "variational", "strided", "strided_valid", "dense"]
# Below this side, unpadded convolutions leave nothing of an image.
_VALID_SIDE = 37


class Autoencoder(NamedTuple):
    """Functions of params and model_state, as `TrainState` holds them."""

    # (key, images) -> (params, model_state)
    init: Callable[[Array, Array], tuple[PyTree, PyTree]]
    # (params, model_state, images, key) -> (Coded, new model_state), training mode
    run: Callable[[PyTree, PyTree, Array, Array], tuple[Coded, PyTree]]
    # (params, model_state, images) -> (latent, new model_state), training mode
    encode: Callable[[PyTree, PyTree, Array], tuple[Array, PyTree]]
    # (params, model_state, images) -> latent, inference mode
    latent: Callable[[PyTree, PyTree, Array], Array]
    # (params, model_state) -> those of the encoder alone
    encoder: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]


def build(
    name: Network,
    latent_width: int,
    spec: DataSpec,
    compute: Compute,
    network: Module | None = None,
) -> Autoencoder:
    """An autoencoder for a data set.

    Args:
        name: which of the papers' networks.
        latent_width: of the code.
        spec: size and shape of the data.
        compute: precision of the network's passes, and the devices' axis.
        network: a Flax module (images [b, h, w, c], train) -> Coded with a method
            `encode` in the named one's place; its batch norm must know the devices' axis.

    Raises:
        InputError: images too small for the network, or a latent without width.
    """
    if latent_width < 1:
        raise InputError("the latent must have at least one dimension; set --latent-width")
    if network is None:
        if name == "strided_valid" and min(spec.image_shape[:2]) < _VALID_SIDE:
            raise InputError(
                f"network strided_valid needs images of {_VALID_SIDE} pixels or more, not "
                f"{spec.image_shape[0]}x{spec.image_shape[1]}; use --network strided"
            )
        network = NETWORKS[name](spec.image_shape, latent_width).clone(axis_name=compute.axis_name)
    apply: Any = partial(precision.apply, network, precision=compute.precision)

    def init(key: Array, images: Array) -> tuple[PyTree, PyTree]:
        variables = network.init(key, images, train=False)
        rest = {name: value for name, value in variables.items() if name != "params"}
        return variables["params"], rest

    def run(params: PyTree, stats: PyTree, images: Array, key: Array) -> tuple[Coded, PyTree]:
        return apply(
            {"params": params, **stats},
            images,
            train=True,
            mutable=list(stats),
            rngs={"latent": key},
        )

    def encode(params: PyTree, stats: PyTree, images: Array) -> tuple[Array, PyTree]:
        variables = {"params": params, **stats}
        return apply(variables, images, train=True, mutable=list(stats), method="encode")

    def latent(params: PyTree, stats: PyTree, images: Array) -> Array:
        return apply({"params": params, **stats}, images, train=False, method="encode")

    def encoder(params: PyTree, stats: PyTree) -> tuple[PyTree, PyTree]:
        images = jax.ShapeDtypeStruct((1, *spec.image_shape), jnp.result_type(float))
        used: Any = jax.eval_shape(
            lambda x: network.init(jax.random.PRNGKey(0), x, train=False, method="encode"), images
        )
        own = {name: params[name] for name in used["params"]}
        return own, {
            kind: {name: layers[name] for name in used.get(kind, {})}
            for kind, layers in stats.items()
        }

    return Autoencoder(init, run, encode, latent, encoder)
