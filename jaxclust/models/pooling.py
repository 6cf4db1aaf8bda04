"""Max-pool whose gradient is a mask of the maxima on CPU.

XLA's own gradient, a select-and-scatter, costs there as much as a convolution.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.models.convolution import Padding, explicit_padding, pad_maps


def _windows(x: Array, window: tuple[int, int], strides: tuple[int, int], pads: Any) -> list[Array]:
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
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    )


def _pool_gradient(
    window: tuple[int, int],
    strides: tuple[int, int],
    padding: Padding,
    residuals: tuple[Array, Array],
    g: Array,
) -> tuple[Array]:
    """Send g back to the first maximum of each window, as XLA does on ties."""
    x, y = residuals
    pads = explicit_padding(x.shape[1:3], window, strides, padding)
    padded = [n + sum(p) for n, p in zip(x.shape[1:3], pads, strict=True)]
    taken = jnp.zeros(y.shape, bool)
    total = jnp.zeros((x.shape[0], *padded, x.shape[3]), g.dtype)
    for index, view in enumerate(_windows(x, window, strides, pads)):
        here = (view == y) & ~taken
        taken |= here
        # Spread the piece out to the places its window offset reads from.
        edges = [
            (start, n - start - (o - 1) * s - 1, s - 1)
            for start, n, o, s in zip(
                divmod(index, window[1]), padded, g.shape[1:3], strides, strict=True
            )
        ]
        piece = jnp.where(here, g, 0)
        total += lax.pad(piece, jnp.zeros((), g.dtype), [(0, 0, 0), *edges, (0, 0, 0)])
    (top, bottom), (left, right) = pads
    return (pad_maps(total, ((-top, -bottom), (-left, -right))),)


def _pool_forward(
    x: Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding
) -> tuple[Array, tuple[Array, Array]]:
    y = _pool(x, window, strides, padding)
    return y, (x, y)


_cpu_pool = jax.custom_vjp(_pool, nondiff_argnums=(1, 2, 3))
_cpu_pool.defvjp(_pool_forward, _pool_gradient)


def max_pool(
    x: Array,
    window: tuple[int, int] = (2, 2),
    strides: tuple[int, int] | None = None,
    padding: Padding = "VALID",
) -> Array:
    """Maximum over windows of x[n, h, w, c]; strides default to the window.

    Equal to `flax.linen.max_pool` in values and gradients, ties included (the
    first maximum of a window, row by row, receives the gradient).
    """
    strides = strides or window
    pool = _cpu_pool if jax.default_backend() == "cpu" else _pool
    return pool(x, window, strides, padding)
