"""Depthwise convolution as shifted products.

XLA's grouped convolutions fall back to naive loops on CPU.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.models._cpu.padding import Padding, explicit_padding, pad_maps
from jaxclust.models.dtypes import widest


def _shifted(x: Array, size: Sequence[int], window: Sequence[int], stride: int) -> list[Array]:
    """The map under each value of a window, row by row: padded x -> [n, *size, c] each."""
    reach = [(n - 1) * stride + 1 for n in size]
    return [
        x[:, i : i + reach[0] : stride, j : j + reach[1] : stride]
        for i in range(window[0])
        for j in range(window[1])
    ]


def _depthwise(x: Array, kernel: Array, stride: int) -> Array:
    """Un-padded: x[n, h, w, c], kernel[i, j, c]."""
    window = kernel.shape[:2]
    size = [(n - k) // stride + 1 for n, k in zip(x.shape[1:3], window, strict=True)]
    weights = kernel.reshape(-1, 1, 1, 1, kernel.shape[2])
    pieces = [part * weights[i] for i, part in enumerate(_shifted(x, size, window, stride))]
    return sum(pieces[1:], pieces[0])


def _depthwise_gradients(
    stride: int, residuals: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    """Both gradients of `_depthwise`; the kernel's is computed one image at a time.

    With one reduction per kernel value over the whole batch, XLA reads both maps from memory for
    each; one image's maps stay in the cache (3 to 6 times faster, measured at 112x112x24 and down).
    """
    x, kernel = residuals
    input_gradient = jax.vjp(lambda x: _depthwise(x, kernel, stride), x)[1](g)[0]

    def image(i: Array, total: Array) -> Array:
        one = lax.dynamic_slice_in_dim(x, i, 1)
        by = lax.dynamic_slice_in_dim(g, i, 1)
        parts = _shifted(one, g.shape[1:3], kernel.shape[:2], stride)
        sums = [jnp.sum(part * by, axis=(0, 1, 2), dtype=wide) for part in parts]
        return total + jnp.stack(sums)

    # bfloat16 would lose what later images add.
    wide = widest(kernel, jnp.float32)
    flat = jnp.zeros((kernel.shape[0] * kernel.shape[1], kernel.shape[2]), wide)
    total = lax.fori_loop(0, x.shape[0], image, flat)
    return input_gradient, total.reshape(kernel.shape).astype(kernel.dtype)


_cpu_depthwise = jax.custom_vjp(_depthwise, nondiff_argnums=(2,))
_cpu_depthwise.defvjp(
    lambda x, kernel, stride: (_depthwise(x, kernel, stride), (x, kernel)), _depthwise_gradients
)


def depthwise_conv2d(x: Array, kernel: Array, stride: int = 1, padding: Padding = "SAME") -> Array:
    """Convolution of each channel by itself, as shifted products.

    XLA's grouped convolutions fall back to naive loops on CPU.

    Args:
        x: maps [n, h, w, c], float.
        kernel: [i, j, c], same dtype.
        stride: of rows and columns.
        padding: 'SAME', 'VALID' or ((top, bottom), (left, right)).

    Returns:
        [n, h', w', c]. Equal to `lax.conv_general_dilated` with one group per channel, values and
        gradients, up to float32 rounding.
    """
    edges = explicit_padding(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    apply = _cpu_depthwise if jax.default_backend() == "cpu" else _depthwise
    return apply(pad_maps(x, edges), kernel, stride)
