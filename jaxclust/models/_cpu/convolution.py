"""Convolution that stays fast inside a CPU scan.

XLA puts a convolution into the form its fast CPU kernels take only in a
program's entry computation; inside `scan`, `while` or `cond` the gradients that
autodiff writes fall back to naive loops. On CPU the gradients here are therefore
written as plain forward convolutions, already in that form. They sum the same
products, so they agree with autodiff's up to float32 rounding. On other
platforms XLA's own gradients are used.
"""

import operator
from collections.abc import Sequence

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
# From this many values on, a map is transposed row by row.
_LARGE_MAP = 2**20


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


def _plain(x: Array, kernel: Array) -> Array:
    """Un-padded, stride-1 convolution: x[n, h, w, c], kernel[i, j, c, o]."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=_NHWC)


def _kernel_gradient(x: Array, g: Array) -> Array:
    """Gradient of `_plain` by its kernel, as a convolution over the batch axis.

    Of few-channel inputs (a network's first layer), and of 1x1 kernels, whose patches are x
    itself, as one product with the patches.
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
    phases = _space_to_depth(pad_maps(x, ((low[0], high[0]), (low[1], high[1]))), strides)
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
    input_gradient = pad_maps(_depth_to_space(input_gradient, strides), rest)
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
    """Both gradients of `_depthwise`; the kernel's an image at a time.

    As one reduction a kernel value over the whole batch, XLA reads both maps from memory for
    each; an image's stay in the cache (3 to 6 times faster, measured at 112x112x24 and down).
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
    wide = jnp.promote_types(kernel.dtype, jnp.float32)
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
        [n, h', w', c]. Equal to `lax.conv_general_dilated` with a group a channel, values and
        gradients, up to float32 rounding.
    """
    edges = explicit_padding(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    apply = _cpu_depthwise if jax.default_backend() == "cpu" else _depthwise
    return apply(pad_maps(x, edges), kernel, stride)


def conv_transpose2d(
    x: Array, kernel: Array, strides: tuple[int, int] = (2, 2), padding: Padding = "SAME"
) -> Array:
    """Transposed convolution: what takes a strided convolution's output size back.

    As one convolution whose output channels are the strides x strides phases of the
    result, so that no product with an inserted zero is computed.

    Args:
        x: maps [n, h, w, c], float.
        kernel: [i, j, c, o], same dtype.
        strides: how many times larger the result is, (rows, columns).
        padding: 'SAME' ([n, h*s, w*t, o]), 'VALID' ([n, h*s + max(i - s, 0), …])
            or ((top, bottom), (left, right)) of the dilated map, as lax has it.

    Returns:
        [n, h', w', o]. Equal to `lax.conv_transpose`, values and gradients, up to
        float32 rounding.
    """
    if jax.default_backend() != "cpu":
        return lax.conv_transpose(x, kernel, strides, padding, dimension_numbers=_NHWC)
    s, t = strides
    size, window = x.shape[1:3], kernel.shape[:2]
    edges = (
        [_transpose_padding(k, r, padding) for k, r in zip(window, strides, strict=True)]
        if isinstance(padding, str)
        else list(padding)
    )
    # Row r*a + p of the result is the sum over m of kernel row r*m + low - p times row
    # a + m of x. Front-padded by r - 1 - low % r and cut into runs of r, the kernel
    # shows the phases p in reverse.
    front = [r - 1 - low % r for (low, _), r in zip(edges, strides, strict=True)]
    back = [-(k + f) % r for k, f, r in zip(window, front, strides, strict=True)]
    wide = jnp.pad(kernel, [*zip(front, back, strict=True), (0, 0), (0, 0)])
    c, o = kernel.shape[2:]
    taps = wide.shape[0] // s, wide.shape[1] // t
    phases = wide.reshape(taps[0], s, taps[1], t, c, o)[:, ::-1, :, ::-1]
    phases = phases.transpose(0, 2, 4, 1, 3, 5).reshape(*taps, c, s * t * o)
    out = [
        (n - 1) * r + 2 + low + high - k
        for n, r, k, (low, high) in zip(size, strides, window, edges, strict=True)
    ]
    pads = []
    for n, r, taken, length, (low, _) in zip(size, strides, taps, out, edges, strict=True):
        pads.append((low // r, -(-length // r) - low // r + taken - 1 - n))
    cut = [(0, min(0, high)) for _, high in pads]
    grow = [(low, max(0, high)) for low, high in pads]
    y = conv2d(pad_maps(x, (cut[0], cut[1])), phases, (1, 1), (grow[0], grow[1]))
    return _depth_to_space(y, strides)[:, : out[0], : out[1]]


def _transpose_padding(window: int, stride: int, padding: str) -> tuple[int, int]:
    """lax.conv_transpose's padding of the dilated map."""
    if padding == "SAME":
        total = window + stride - 2
        low = window - 1 if stride > window - 1 else -(-total // 2)
    else:
        total = window + stride - 2 + max(window - stride, 0)
        low = window - 1
    return low, total - low
