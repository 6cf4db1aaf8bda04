"""An autoencoder as two networks of the same variables, for methods that cluster latents."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core.errors import InputError
from jaxclust.core.types import Compute, DataSpec, Network, PyTree
from jaxclust.models.adapter import collections, from_flax
from jaxclust.models.autoencoder import Coded
from jaxclust.models.autoencoders import NETWORKS
from jaxclust.models.layers import Module

Name = Literal[
    "shallow", "deep", "variational", "strided", "strided_valid", "dense", "sparse", "what_where"
]
# Below this side, unpadded convolutions leave nothing of an image.
_VALID_SIDE = 37


class Autoencoder(NamedTuple):
    """The network that codes images, and the part of it that stops at the latent."""

    whole: Network  # images -> Coded
    encoder: Network  # images -> latent [b, d], of the whole's variables

    def run(
        self, params: PyTree, model_state: PyTree, images: Array, key: Array
    ) -> tuple[Coded, PyTree]:
        """(Coded, new model_state), in training mode."""
        return self.whole.apply({"params": params, **model_state}, images, train=True, key=key)

    def encode(
        self, params: PyTree, model_state: PyTree, images: Array, key: Array
    ) -> tuple[Array, PyTree]:
        """(latent [b, d], new model_state), in training mode."""
        return self.encoder.apply({"params": params, **model_state}, images, train=True, key=key)

    def latent(self, params: PyTree, model_state: PyTree, images: Array) -> Array:
        """Latent [b, d], in inference mode."""
        return self.encoder.apply({"params": params, **model_state}, images, train=False)[0]

    def width(self, params: PyTree, model_state: PyTree, images: Array) -> int:
        """d, the values of a latent."""
        return jax.eval_shape(self.latent, params, model_state, images).shape[1]

    def first(self, key: Array, images: Array) -> tuple[PyTree, PyTree]:
        """(params, model_state) before training."""
        variables = self.whole.init(key, images)
        rest = collections(variables)
        return variables["params"], rest

    def encoder_alone(
        self, params: PyTree, model_state: PyTree, shape: tuple[int, ...]
    ) -> tuple[PyTree, PyTree]:
        """(params, model_state) of the encoder, for inputs of a shape."""
        example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        used: Any = jax.eval_shape(lambda x: self.encoder.init(jax.random.key(0), x), example)
        own = {name: params[name] for name in used["params"]}
        return own, {
            kind: {name: layers[name] for name in used.get(kind, {})}
            for kind, layers in model_state.items()
        }


def _as_they_are(variables: PyTree, x: Array, *, train: bool, key: Any = None) -> tuple[Any, Any]:
    del variables, train, key
    values = x.reshape(x.shape[0], -1)
    return Coded(values, values), {}


# Without a network: the latents are the values themselves, and there is nothing to train.
NOTHING = Autoencoder(
    Network(lambda key, x: {"params": {}}, _as_they_are),
    Network(
        lambda key, x: {"params": {}},
        lambda variables, x, **how: (_as_they_are(variables, x, **how)[0].latent, {}),
    ),
)


def build(
    name: Name,
    latent_width: int,
    spec: DataSpec,
    compute: Compute,
    network: Autoencoder | Module | None = None,
) -> Autoencoder:
    """An autoencoder for a data set.

    Args:
        name: which of the papers' networks.
        latent_width: of the code.
        spec: size and shape of the data.
        compute: precision of the network's passes, and the devices' axis.
        network: in place of the named one: two networks, or a Flax module (images, train) ->
            Coded with a method `encode`; its batch norm must know the devices' axis.

    Raises:
        InputError: images too small for the network, or a latent width below 1.
    """
    if latent_width < 1:
        raise InputError(f"‹latent_width› must be at least 1, not {latent_width}")
    if isinstance(network, Autoencoder):
        return network
    if network is None:
        network = _published(name, latent_width, spec, compute)
    whole = from_flax(network, compute.precision)
    return Autoencoder(whole, from_flax(network, compute.precision, "encode"))


def _published(name: Name, latent_width: int, spec: DataSpec, compute: Compute) -> Module:
    if name in {"dense", "sparse"}:
        return NETWORKS[name](spec.shape, latent_width).clone(axis_name=compute.axis_name)
    height, width, _ = spec.image_shape
    if name == "strided_valid" and min(height, width) < _VALID_SIDE:
        raise InputError(
            f"‹network› strided_valid needs images of {_VALID_SIDE} pixels or more, not "
            f"{height}x{width}; use strided"
        )
    return NETWORKS[name](spec.image_shape, latent_width).clone(axis_name=compute.axis_name)
