"""Transposed convolution without a product with inserted zeros.

On CPU it is one plain convolution; on accelerators, a strided convolution's gradient by its input,
for which their libraries have kernels. They have none for what autodiff makes of
`lax.conv_transpose`: its kernel gradient is a convolution with a window as large as the map, which
takes a minute to compile and is slow.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.models._cpu.convolution import NHWC, conv2d
from jaxclust.models._cpu.padding import Edges, Padding, pad_maps
from jaxclust.models._cpu.phases import depth_to_space


def conv_transpose2d(
    x: Array, kernel: Array, strides: tuple[int, int] = (2, 2), padding: Padding = "SAME"
) -> Array:
    """Transposed convolution: it undoes the size change of a strided convolution.

    On CPU it is one convolution whose output channels are the strides x strides phases of
    the result.

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
    edges = _edges(kernel, strides, padding)
    if jax.default_backend() != "cpu":
        return _input_gradient(x, kernel, tuple(strides), tuple(map(tuple, edges)))
    rows, columns = (
        _along(*along) for along in zip(x.shape[1:3], kernel.shape[:2], strides, edges, strict=True)
    )
    phases = _kernel_of_phases(kernel, strides, (rows, columns))
    cut = ((0, min(0, rows.pad[1])), (0, min(0, columns.pad[1])))
    grow = (rows.pad[0], max(0, rows.pad[1])), (columns.pad[0], max(0, columns.pad[1]))
    y = conv2d(pad_maps(x, cut), phases, (1, 1), grow)
    return depth_to_space(y, strides)[:, : rows.length, : columns.length]


def _strided(y: Array, kernel: Array, strides: tuple[int, int], edges: Edges) -> Array:
    """The convolution y[n, h', w', o] -> [n, h, w, c] whose transpose is wanted."""
    pads = [
        (size - 1 - low, size - 1 - high)
        for size, (low, high) in zip(kernel.shape[:2], edges, strict=True)
    ]
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return lax.conv_general_dilated(y, turned, strides, pads, dimension_numbers=NHWC)


def _input_gradient_value(x: Array, kernel: Array, strides: tuple[int, int], edges: Edges) -> Array:
    n, *sizes, _ = x.shape
    lengths = [
        _along(*along).length for along in zip(sizes, kernel.shape[:2], strides, edges, strict=True)
    ]
    result = jax.ShapeDtypeStruct((n, *lengths, kernel.shape[3]), x.dtype)
    (y,) = jax.linear_transpose(lambda y: _strided(y, kernel, strides, edges), result)(x)
    return y


def _input_gradient_forward(
    x: Array, kernel: Array, strides: tuple[int, int], edges: Edges
) -> tuple[Array, tuple[Array, Array]]:
    return _input_gradient_value(x, kernel, strides, edges), (x, kernel)


def _input_gradient_backward(
    strides: tuple[int, int], edges: Edges, kept: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = kept
    by_x, kernel_gradient = jax.vjp(lambda k: _strided(g, k, strides, edges), kernel)
    return by_x, kernel_gradient(x)[0]


_input_gradient = jax.custom_vjp(_input_gradient_value, nondiff_argnums=(2, 3))
_input_gradient.defvjp(_input_gradient_forward, _input_gradient_backward)


class _Axis(NamedTuple):
    """The plain convolution along rows or columns."""

    front: int  # zeros before the kernel
    back: int  # and behind it, up to whole strides
    length: int  # of the result
    pad: tuple[int, int]  # of x, negative where it is cut


def _along(size: int, window: int, stride: int, edge: tuple[int, int]) -> _Axis:
    """Row r*a + p of the result is a sum over m: kernel row r*m + low - p times row a + m of x.

    r is the stride. Front-padded by r - 1 - low % r and cut into runs of r, the kernel
    shows the phases p in reverse.
    """
    low, high = edge
    front = stride - 1 - low % stride
    back = -(window + front) % stride
    taps = (front + window + back) // stride
    length = (size - 1) * stride + 2 + low + high - window
    pad = (low // stride, -(-length // stride) - low // stride + taps - 1 - size)
    return _Axis(front, back, length, pad)


def _kernel_of_phases(kernel: Array, strides: Sequence[int], axes: Sequence[_Axis]) -> Array:
    """kernel[i, j, c, o] -> [taps of rows, of columns, c, s*t*o], one channel per phase."""
    s, t = strides
    wide = jnp.pad(kernel, [*((axis.front, axis.back) for axis in axes), (0, 0), (0, 0)])
    c, o = kernel.shape[2:]
    taps = wide.shape[0] // s, wide.shape[1] // t
    phases = wide.reshape(taps[0], s, taps[1], t, c, o)[:, ::-1, :, ::-1]
    return phases.transpose(0, 2, 4, 1, 3, 5).reshape(*taps, c, s * t * o)


def _edges(kernel: Array, strides: Sequence[int], padding: Padding) -> Sequence[tuple[int, int]]:
    """The padding of the dilated map's rows and columns as numbers."""
    if not isinstance(padding, str):
        return padding
    return [
        _named_edge(window, stride, padding)
        for window, stride in zip(kernel.shape[:2], strides, strict=True)
    ]


def _named_edge(window: int, stride: int, padding: str) -> tuple[int, int]:
    """lax.conv_transpose's padding of the dilated map."""
    if padding == "SAME":
        total = window + stride - 2
        low = window - 1 if stride > window - 1 else -(-total // 2)
    else:
        total = window + stride - 2 + max(window - stride, 0)
        low = window - 1
    return low, total - low
