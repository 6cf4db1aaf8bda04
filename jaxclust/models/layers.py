"""Convolution, max-pool and upsampling that stay fast inside a CPU scan.

XLA puts a convolution into the form its fast CPU kernels take only in a
program's entry computation; inside `scan`, `while` or `cond` the gradients that
autodiff writes fall back to naive loops. On CPU the gradients here are therefore
written as plain forward convolutions, already in that form. They sum the same
products, so they agree with autodiff's up to float32 rounding. On other
platforms XLA's own gradients are used.
"""

import operator
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

# (top, bottom), (left, right)
Edges = tuple[tuple[int, int], tuple[int, int]]
Padding = str | Edges
_NHWC = ("NHWC", "HWIO", "NHWC")
# Up to this many values a patch, gathering patches costs less than a convolution
# over the batch axis (measured on 5x5x1 and 3x3x3).
_FEW_PATCH_VALUES = 32


def _pads(
    size: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> Edges:
    """Explicit (low, high) padding of height and width."""
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(size, window, strides, padding)
        return (int(pads[0][0]), int(pads[0][1])), (int(pads[1][0]), int(pads[1][1]))
    return padding


def _pad_hw(x: Array, edges: Edges, value: float = 0) -> Array:
    """Pad (or, where negative, crop) the two spatial axes of x[n, h, w, c]."""
    (top, bottom), (left, right) = edges
    pads = [(0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(value, x.dtype), pads)


def _plain(x: Array, kernel: Array) -> Array:
    """Un-padded, stride-1 convolution: x[n, h, w, c], kernel[i, j, c, o]."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=_NHWC)


def _kernel_gradient(x: Array, g: Array) -> Array:
    """Gradient of `_plain` by its kernel, as a convolution over the batch axis.

    Of few-channel inputs (a network's first layer) as one product with the patches.
    """
    n, h, w, o = g.shape
    rows, columns, c = x.shape[1] - h + 1, x.shape[2] - w + 1, x.shape[3]
    if rows * columns * c <= _FEW_PATCH_VALUES:
        patches = jnp.concatenate(
            [x[:, i : i + h, j : j + w] for i in range(rows) for j in range(columns)], axis=-1
        )
        product = g.reshape(-1, o).T @ patches.reshape(n * h * w, -1)
        return product.T.reshape(rows, columns, c, o)
    swapped = _plain(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3))
    return swapped.transpose(1, 2, 0, 3)


def _input_gradient(g: Array, kernel: Array, trim: Edges) -> Array:
    """Gradient of `_plain` by its input: g padded, kernel turned by 180 degrees.

    `trim` rows and columns at each edge of the input (its padding) are left out,
    so that nothing is computed for them.
    """
    edges = [
        (k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel.shape[:2], trim, strict=True)
    ]
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    return _forward(g, turned, (1, 1), (edges[0], edges[1]))


def _space_to_depth(x: Array, strides: tuple[int, int]) -> Array:
    """x[n, h*s, w*t, c] -> [n, h, w, s*t*c]: every stride phase becomes a channel."""
    n, h, w, c = x.shape
    s, t = strides
    blocks = x.reshape(n, h // s, s, w // t, t, c).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h // s, w // t, s * t * c)


def _depth_to_space(x: Array, strides: tuple[int, int]) -> Array:
    """Inverse of `_space_to_depth`."""
    n, h, w, c = x.shape
    s, t = strides
    blocks = x.reshape(n, h, w, s, t, c // (s * t)).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h * s, w * t, c // (s * t))


def _kernel_to_depth(kernel: Array, strides: tuple[int, int]) -> Array:
    """The stride-1 kernel that acts on `_space_to_depth` of the input.

    `kernel`'s height and width must be multiples of the strides.
    """
    as_image = kernel.transpose(3, 0, 1, 2)
    return _space_to_depth(as_image, strides).transpose(1, 2, 3, 0)


def _kernel_from_depth(kernel: Array, strides: tuple[int, int]) -> Array:
    """Inverse of `_kernel_to_depth`."""
    return _depth_to_space(kernel.transpose(3, 0, 1, 2), strides).transpose(1, 2, 3, 0)


def _lax_conv(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_NHWC)


def _forward(x: Array, kernel: Array, strides: tuple[int, int], padding: Padding) -> Array:
    """The convolution as XLA's CPU kernels take it."""
    size, window = x.shape[1:3], kernel.shape[:2]
    if all(n >= k for n, k in zip(size, window, strict=True)):
        return _lax_conv(x, kernel, strides, padding)
    # A map smaller than the window is convolved ten times slower, unless it is
    # padded beforehand; the barrier keeps XLA from folding the padding back in.
    padded = _pad_hw(x, _pads(size, window, strides, padding))
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
    pads = _pads(size, window, strides, padding)
    # Windows rounded up to whole strides, and the input extent they then reach.
    rounded = [-(-k // s) * s for k, s in zip(window, strides, strict=True)]
    extent = [(o - 1) * s + k for o, s, k in zip(g.shape[1:3], strides, rounded, strict=True)]
    low = [p[0] for p in pads]
    high = [e - n - p for e, n, p in zip(extent, size, low, strict=True)]
    phases = _space_to_depth(_pad_hw(x, ((low[0], high[0]), (low[1], high[1]))), strides)
    grow = [(0, r - k) for r, k in zip(rounded, window, strict=True)]
    wide = jnp.pad(kernel, [*grow, (0, 0), (0, 0)])

    kernel_gradient = _kernel_from_depth(_kernel_gradient(phases, g), strides)
    kernel_gradient = kernel_gradient[: window[0], : window[1]]
    # Padding that is a whole number of phases is never computed; the rest is cut.
    trim, rest = (
        (
            (part(low[0], strides[0]), part(high[0], strides[0])),
            (part(low[1], strides[1]), part(high[1], strides[1])),
        )
        for part in (operator.floordiv, lambda pad, stride: -(pad % stride))
    )
    input_gradient = _input_gradient(g, _kernel_to_depth(wide, strides), trim)
    input_gradient = _pad_hw(_depth_to_space(input_gradient, strides), rest)
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


def _windows(x: Array, window: tuple[int, int], strides: tuple[int, int], pads: Any) -> list[Array]:
    """The strided view of padded x at every window offset, row by row."""
    padded = _pad_hw(x, pads, value=-jnp.inf)
    reach = [
        (n - k) // s * s + 1 for n, k, s in zip(padded.shape[1:3], window, strides, strict=True)
    ]
    return [
        padded[:, i : i + reach[0] : strides[0], j : j + reach[1] : strides[1]]
        for i in range(window[0])
        for j in range(window[1])
    ]


def _pool(x: Array, window: tuple[int, int], strides: tuple[int, int], padding: Padding) -> Array:
    pads = _pads(x.shape[1:3], window, strides, padding)
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
    pads = _pads(x.shape[1:3], window, strides, padding)
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
    return (_pad_hw(total, ((-top, -bottom), (-left, -right))),)


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


def upsample(x: Array, factor: int = 2) -> Array:
    """Nearest-neighbour upsampling: x[n, h, w, c] -> [n, factor*h, factor*w, c]."""
    n, h, w, c = x.shape
    wide = jnp.broadcast_to(x[:, :, None, :, None], (n, h, factor, w, factor, c))
    return wide.reshape(n, factor * h, factor * w, c)


class Conv(nn.Module):
    """Convolution layer; parameters `kernel` [i, j, c, features] and `bias` [features].

    `nn.Conv`'s parameters, initialisation and results, with :func:`conv2d`'s
    gradients.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x[n, h, w, c] -> [n, h', w', features]."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        y = conv2d(x, kernel, self.strides, self.padding)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y += bias.reshape(1, 1, 1, -1)
        return y
