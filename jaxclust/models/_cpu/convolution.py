"""Convolution that stays fast inside a CPU scan.

XLA puts a convolution into the form its fast CPU kernels take only in a
program's entry computation; inside `scan`, `while` or `cond` the gradients that
autodiff writes fall back to naive loops. On CPU the gradients here are therefore
written as plain forward convolutions, already in that form. They sum the same
products, so they agree with autodiff's up to float32 rounding. On other
platforms XLA's own gradients are used.
"""

import operator

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.models._cpu.padding import Edges, Padding, explicit_padding, pad_maps
from jaxclust.models._cpu.phases import (
    depth_to_space,
    kernel_from_depth,
    kernel_to_depth,
    space_to_depth,
)

NHWC = ("NHWC", "HWIO", "NHWC")
# Up to this many values per patch, gathering patches costs less than a convolution
# over the batch axis (measured on 5x5x1 and 3x3x3).
_FEW_PATCH_VALUES = 32
# From this many values on, a map is transposed row by row.
_LARGE_MAP = 2**20


def _plain(x: Array, kernel: Array) -> Array:
    """Un-padded, stride-1 convolution: x[n, h, w, c], kernel[i, j, c, o]."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=NHWC)


def _kernel_gradient(x: Array, g: Array) -> Array:
    """Gradient of `_plain` by its kernel, as a convolution over the batch axis.

    For few-channel inputs (a network's first layer), and for 1x1 kernels, whose patches are x
    itself, it is one product with the patches.
    """
    n, h, w, o = g.shape
    rows, columns, c = x.shape[1] - h + 1, x.shape[2] - w + 1, x.shape[3]
    if rows * columns == 1 or rows * columns * c <= _FEW_PATCH_VALUES:
        patches = jnp.concatenate(
            [x[:, i : i + h, j : j + w] for i in range(rows) for j in range(columns)], axis=-1
        )
        product = g.reshape(-1, o).T @ patches.reshape(n * h * w, -1)
        return product.T.reshape(rows, columns, c, o)
    swapped = _plain(_channels_first_batch_last(x), g.transpose(1, 2, 0, 3))
    return swapped.transpose(1, 2, 0, 3)


def _channels_first_batch_last(x: Array) -> Array:
    """x[n, h, w, c] -> [c, h, w, n]."""
    if x.size < _LARGE_MAP:
        return x.transpose(3, 1, 2, 0)
    # A loop over rows: its slices stay in the cache, and XLA does not fuse it with
    # whatever made x, which it would compute again value by value.
    n, h, w, c = x.shape

    def row(i: Array, out: Array) -> Array:
        part = lax.dynamic_slice_in_dim(x, i, 1, axis=1).transpose(3, 1, 2, 0)
        return lax.dynamic_update_slice_in_dim(out, part, i, axis=1)

    return lax.fori_loop(0, h, row, jnp.zeros((c, h, w, n), x.dtype))


def _input_gradient(g: Array, kernel: Array, trim: Edges) -> Array:
    """Gradient of `_plain` by its input; `trim` rows and columns at its edges (the
    padding) are left out, so that nothing is computed for them.

    Columns are gathered, by a convolution of padded g with the turned kernel; rows
    are scattered: the convolution gives the share of every kernel row, and the
    shares are added up, shifted. No product with padding rows is computed, which on
    a 7x7 map would be a fifth of all, and the patches to gather are shorter.
    """
    rows, columns, c, o = kernel.shape
    (top, bottom), (left, right) = trim
    turned = kernel[:, ::-1].transpose(1, 3, 0, 2).reshape(1, columns, o, rows * c)
    edges = (columns - 1 - left, columns - 1 - right)
    shares = _forward(g, turned, (1, 1), ((0, 0), edges))
    shares = shares.reshape(*shares.shape[:3], rows, c)
    total = [
        pad_maps(shares[:, :, :, i], ((i - top, rows - 1 - i - bottom), (0, 0)))
        for i in range(rows)
    ]
    return sum(total[1:], total[0])


def _lax_conv(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NHWC)


def _forward(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """The convolution as XLA's CPU kernels take it."""
    size, window = x.shape[1:3], kernel.shape[:2]
    if all(n >= k for n, k in zip(size, window, strict=True)):
        return _lax_conv(x, kernel, strides, padding)
    # A map smaller than the window is convolved ten times slower, unless it is
    # padded beforehand; the barrier keeps XLA from folding the padding back in.
    padded = pad_maps(x, explicit_padding(size, window, strides, padding))
    return _lax_conv(lax.optimization_barrier(padded), kernel, strides, "VALID")


def _gradients(
    strides: tuple[int, int], padding: Padding, residuals: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    """Both gradients of a convolution, through its stride-1 equivalent.

    A stride-s convolution is a stride-1 convolution of the s x s phases of its
    input, stacked as channels. Crop or zero-fill to what the windows touch, and
    one pair of gradient formulas serves every stride.
    """
    x, kernel = residuals
    size, window = x.shape[1:3], kernel.shape[:2]
    pads = explicit_padding(size, window, strides, padding)
    # Windows rounded up to whole strides, and the input extent they then reach.
    rounded = [-(-k // s) * s for k, s in zip(window, strides, strict=True)]
    extent = [(o - 1) * s + k for o, s, k in zip(g.shape[1:3], strides, rounded, strict=True)]
    low = [p[0] for p in pads]
    high = [e - n - p for e, n, p in zip(extent, size, low, strict=True)]
    phases = space_to_depth(pad_maps(x, ((low[0], high[0]), (low[1], high[1]))), strides)
    grow = [(0, r - k) for r, k in zip(rounded, window, strict=True)]
    wide = jnp.pad(kernel, [*grow, (0, 0), (0, 0)])

    kernel_gradient = kernel_from_depth(_kernel_gradient(phases, g), strides)
    kernel_gradient = kernel_gradient[: window[0], : window[1]]
    # Padding that is a whole number of phases is never computed; the rest is cut.
    trim, rest = (
        (
            (part(low[0], strides[0]), part(high[0], strides[0])),
            (part(low[1], strides[1]), part(high[1], strides[1])),
        )
        for part in (operator.floordiv, lambda pad, stride: -(pad % stride))
    )
    input_gradient = _input_gradient(g, kernel_to_depth(wide, strides), trim)
    input_gradient = pad_maps(depth_to_space(input_gradient, strides), rest)
    return input_gradient, kernel_gradient


_cpu_conv = jax.custom_vjp(_forward, nondiff_argnums=(2, 3))
_cpu_conv.defvjp(
    lambda x, kernel, strides, padding: (_forward(x, kernel, strides, padding), (x, kernel)),
    _gradients,
)


def conv2d(
    x: Array, kernel: Array, strides: tuple[int, int] = (1, 1), padding: Padding = "SAME"
) -> Array:
    """Two-dimensional convolution (cross-correlation, as in every CNN library).

    Args:
        x: images [n, h, w, c], float.
        kernel: [i, j, c, o], same dtype.
        strides: (rows, columns).
        padding: 'SAME', 'VALID' or ((top, bottom), (left, right)), none negative.

    Returns:
        [n, h', w', o]. Equal to `lax.conv_general_dilated`, values and gradients,
        up to float32 rounding.
    """
    if jax.default_backend() == "cpu":
        return _cpu_conv(x, kernel, strides, padding)
    return _lax_conv(x, kernel, strides, padding)
