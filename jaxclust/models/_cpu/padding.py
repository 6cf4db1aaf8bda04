"""Padding of maps, as numbers, and what a layer may be given for it."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jax import Array, lax

# (top, bottom), (left, right)
Edges: TypeAlias = tuple[tuple[int, int], tuple[int, int]]
# As lax has it: SAME (as many places as strides fit), VALID (none) or numbers.
Padding: TypeAlias = Literal["SAME", "VALID"] | Edges


def explicit_padding(
    size: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> Edges:
    """Explicit (low, high) padding of height and width."""
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(size, window, strides, padding)
        return (int(pads[0][0]), int(pads[0][1])), (int(pads[1][0]), int(pads[1][1]))
    return padding


def pad_maps(x: Array, edges: Edges, value: float = 0) -> Array:
    """Pad (or, where negative, crop) the two spatial axes of x[n, h, w, c]."""
    (top, bottom), (left, right) = edges
    pads = [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(value, x.dtype), pads)
