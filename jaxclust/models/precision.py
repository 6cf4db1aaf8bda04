"""Networks computed in a different precision from that of their stored parameters."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def cast(tree: Any, dtype: DTypeLike) -> Any:
    """A pytree with its floating leaves in `dtype`, the others as they are."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def apply(
    network: nn.Module, variables: Mapping[str, Any], *inputs: Any, precision: str, **keywords: Any
) -> Any:
    """`network.apply` in the given precision.

    With 'bfloat16', parameters and floating inputs are cast before and what the
    network returns is cast to float32 after; gradients reach the float32
    parameters. Other collections (batch-norm statistics) are neither cast nor
    computed in bfloat16. With 'float32' nothing is cast.

    Args:
        network: a Flax module.
        variables: its variables, `params` among them.
        inputs: what `network.apply` takes after them.
        precision: 'float32' or 'bfloat16'.
        keywords: passed on to `network.apply`.
    """
    if precision == "float32":
        return network.apply(variables, *inputs, **keywords)
    low = {**variables, "params": cast(variables["params"], precision)}
    result = network.apply(low, *cast(inputs, precision), **keywords)
    if "mutable" not in keywords:
        return cast(result, jnp.float32)
    output, changed = result
    return cast(output, jnp.float32), cast(changed, jnp.float32)
