"""Stride phases of a map as channels, and back.

A stride-s convolution of a map is a stride-1 convolution of its s x s phases.
"""

from jax import Array


def space_to_depth(x: Array, strides: tuple[int, int]) -> Array:
    """x[n, h*s, w*t, c] -> [n, h, w, s*t*c]: every stride phase becomes a channel."""
    n, h, w, c = x.shape
    s, t = strides
    blocks = x.reshape(n, h // s, s, w // t, t, c).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h // s, w // t, s * t * c)


def depth_to_space(x: Array, strides: tuple[int, int]) -> Array:
    """Inverse of `space_to_depth`."""
    n, h, w, c = x.shape
    s, t = strides
    blocks = x.reshape(n, h, w, s, t, c // (s * t)).transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(n, h * s, w * t, c // (s * t))


def kernel_to_depth(kernel: Array, strides: tuple[int, int]) -> Array:
    """The stride-1 kernel that acts on `space_to_depth` of the input.

    `kernel`'s height and width must be multiples of the strides.
    """
    as_image = kernel.transpose(3, 0, 1, 2)
    return space_to_depth(as_image, strides).transpose(1, 2, 3, 0)


def kernel_from_depth(kernel: Array, strides: tuple[int, int]) -> Array:
    """Inverse of `kernel_to_depth`."""
    return depth_to_space(kernel.transpose(3, 0, 1, 2), strides).transpose(1, 2, 3, 0)
