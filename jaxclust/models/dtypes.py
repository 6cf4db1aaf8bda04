"""Which dtypes networks compute in.

Parameters and statistics start as float32 whatever JAX's default float is, so that a
checkpoint of one process fits any other. Layers compute in the widest dtype of what they are
given: float64 where a caller widened images and parameters, bfloat16 where precision.py casts to
it.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

# Of parameters and statistics when they are initialised.
PARAMETERS = jnp.float32


def widest(*of: Array | DTypeLike) -> Any:
    """The smallest dtype that holds the values of all these arrays and dtypes.

    The promotion is explicit, so that strict promotion, which forbids the implicit kind, allows it.

    >>> widest(jnp.bfloat16, jnp.float32) == jnp.float32
    True
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*of)


def alike(*arrays: Array) -> tuple[Array, ...]:
    """The arrays, each in the widest dtype of all."""
    dtype = widest(*arrays)
    return tuple(array.astype(dtype) for array in arrays)
