"""Flax modules as :class:`core.types.Network`, the form in which methods use networks."""

from typing import Any

import flax.linen as nn
from jax import Array

from jaxclust.core.types import Network, Precision, PyTree
from jaxclust.models import precision as precisions

# The random streams that our layers and most others ask for.
_STREAMS = ("dropout", "latent")


def collections(variables: PyTree) -> PyTree:
    """All of a network's variables but its parameters: batch-norm statistics and the like."""
    return {name: value for name, value in variables.items() if name != "params"}


def from_flax(
    module: nn.Module, precision: Precision = "float32", method: str | None = None
) -> Network:
    """A Flax module as two functions.

    Args:
        module: called with (x, train).
        precision: of its passes, see :func:`precision.apply`.
        method: a method of the module to call instead, such as `encode` of an autoencoder.
    """

    def init(key: Array, example: Array) -> PyTree:
        return module.init(key, example, train=False, method=method)

    def apply(
        variables: PyTree, x: Array, *, train: bool, key: Array | None = None
    ) -> tuple[Any, PyTree]:
        kept = collections(variables)
        given: dict[str, Any] = {"train": train, "method": method, "precision": precision}
        if not train:
            return precisions.apply(module, variables, x, **given), kept
        if key is not None:
            given["rngs"] = dict.fromkeys(_STREAMS, key)
        outputs, changed = precisions.apply(module, variables, x, mutable=list(kept), **given)
        return outputs, {**kept, **changed}

    return Network(init, apply)


def as_network(
    given: Network | nn.Module, precision: Precision = "float32", method: str | None = None
) -> Network:
    """A network as it is, or a Flax module by :func:`from_flax`."""
    return given if isinstance(given, Network) else from_flax(given, precision, method)
