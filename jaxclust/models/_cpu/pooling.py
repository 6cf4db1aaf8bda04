"""Max-pool whose gradient is a mask of the maxima on CPU.

XLA's own gradient, a select-and-scatter, costs there as much as a convolution.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxclust.models._cpu.padding import Edges, Padding, explicit_padding, pad_maps


def _windows(
    x: Array, window: tuple[int, int], strides: tuple[int, int], pads: Edges
) -> list[Array]:
    """The strided view of padded x at every window offset, row by row."""
    padded = pad_maps(x, pads, value=-jnp.inf)
    reach = [
        (n - k) // s * s + 1 for n, k, s in zip(padded.shape[1:3], window, strides, strict=True)
    ]
    return [
        padded[:, i : i + reach[0] : strides[0], j : j + reach[1] : strides[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]


def _pool(x: Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding) -> Array:
    pads = explicit_padding(x.shape[1:3], window, strides, padding)
    least = np.array(-np.inf, x.dtype)  # of x's dtype, not of JAX's default float
    return lax.reduce_window(
        x, least, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    )


def _pool_gradient(
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    side: Sequence[int],
    chosen: Array,
    g: Array,
) -> tuple[Array]:
    """Send g back to the place in the window that was chosen."""
    pads = explicit_padding(side, window, strides, padding)
    padded = [n + sum(p) for n, p in zip(side, pads, strict=True)]
    total = jnp.zeros((g.shape[0], *padded, g.shape[3]), g.dtype)
    for index in range(window[0] * window[1]):
        # Spread the piece out to the places its window offset reads from.
        edges = [
            (start, n - start - (o - 1) * s - 1, s - 1)
            for start, n, o, s in zip(
                divmod(index, window[1]), padded, g.shape[1:3], strides, strict=True
            )
        ]
        piece = jnp.where(chosen == index, g, 0)
        total += lax.pad(piece, jnp.zeros((), g.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    (top, bottom), (left, right) = pads
    return (pad_maps(total, ((-top, -bottom), (-left, -right))),)


def _pool_forward(
    x: Array,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    side: Sequence[int],
) -> tuple[Array, Array]:
    """The maxima, and the place in each window of the first of them.

    The place is kept, not found again by comparing x with the maxima: a compiler may compute x
    twice with different rounding, and then nothing equals its maximum.
    """
    pads = explicit_padding(side, window, strides, padding)
    first, *others = _windows(x, window, strides, pads)
    best, chosen = first, jnp.zeros(first.shape, jnp.uint8)
    for index, view in enumerate(others, 1):
        better = view > best
        chosen = jnp.where(better, jnp.uint8(index), chosen)
        best = jnp.where(better, view, best)
    return _pool(x, window, strides, padding), chosen


def _pool_value(
    x: Array,
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    side: Sequence[int],
) -> Array:
    del side  # only for the gradient, which no longer has x
    return _pool(x, window, strides, padding)


_cpu_pool = jax.custom_vjp(_pool_value, nondiff_argnums=(1, 2, 3, 4))
_cpu_pool.defvjp(_pool_forward, _pool_gradient)


def max_pool(
    x: Array,
    window: tuple[int, int] = (2, 2),
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Array:
    """Maximum over windows of x[n, h, w, c], float: [n, h', w', c], dtype kept.

    Args:
        x: maps.
        window: (rows, columns).
        strides: (rows, columns); the window by default.
        padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).

    Equal to `flax.linen.max_pool` in values and gradients, ties included (the
    first maximum of a window, row by row, receives the gradient).
    """
    strides = strides or window
    if jax.default_backend() == "cpu":
        return _cpu_pool(x, window, strides, padding, x.shape[1:3])
    return _pool(x, window, strides, padding)
