"""Feature-drift compensation: the parameters before the last update (CCNN)."""

from collections.abc import Sequence

import jax
from jax import Array

from jaxclust.core.types import PyTree


def rollback(params: PyTree, last_updates: PyTree, layers: Sequence[str] | None = None) -> PyTree:
    """Parameters before the optax update that led to `params`.

    Hsu & Lin 2017, Eq. 13, w + eta * dw: optax's updates are added, so they are
    subtracted here. Floating-point addition does not invert exactly; the result
    is the former parameters up to one rounding of each value.

    Args:
        params: mapping from layer name to that layer's parameters.
        last_updates: the updates as optax returned them, same structure.
        layers: names of the layers to roll back, leaving the others as they are (the paper's W_FC9
            alone); None rolls back all.

    Returns:
        Same structure as `params`.

    Raises:
        ValueError: a layer that `params` does not have.
    """

    def before(tree: PyTree, updates: PyTree) -> PyTree:
        return jax.tree.map(_minus, tree, updates)

    if layers is None:
        return before(params, last_updates)
    if missing := set(layers) - set(params):
        raise ValueError(f"no layer named {sorted(missing)}; there are {sorted(params)}")
    return {
        name: before(tree, last_updates[name]) if name in layers else tree
        for name, tree in params.items()
    }


def _minus(value: Array, update: Array) -> Array:
    return value - update
