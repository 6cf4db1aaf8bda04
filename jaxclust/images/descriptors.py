"""What classical methods see of images: pixels, or edges and colours."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core.errors import InputError

Descriptor = Literal["auto", "pixels", "hog"]
# From this side on, pixels say less than edges and colours.
_LARGE = 64
_GRID = 8
_BINS = 9
_CLIP = 0.2
_EPSILON = 1e-5


def check_descriptor(kind: Descriptor, shape: tuple[int, ...]) -> None:
    """Raise InputError for features, or images too small for a descriptor."""
    if kind != "hog":
        return
    if len(shape) != 3:
        raise InputError("‹features› hog needs images, not features; use pixels")
    if min(shape[:2]) < _GRID:
        raise InputError(
            f"‹features› hog needs images of at least {_GRID}x{_GRID} pixels, not "
            f"{shape[0]}x{shape[1]}; use pixels"
        )


def describe(images: Array, kind: Descriptor = "auto") -> Array:
    """Descriptors [b, d] of images [b, h, w, c], of their dtype; features [b, d] are their own.

    Args:
        images: normalised, float.
        kind: pixels; hog (:func:`hog` and :func:`colour_grid`); auto: pixels for images under 64
            pixels, otherwise hog.
    """
    if kind == "pixels" or images.ndim == 2 or (kind == "auto" and min(images.shape[1:3]) < _LARGE):
        return images.reshape(images.shape[0], -1)
    return jnp.concatenate([hog(images), colour_grid(images)], axis=1)


def colour_grid(images: Array) -> Array:
    """Mean values of 8x8 cells, dtype kept: float [b, h, w, c] -> [b, 8 * 8 * c]."""
    return _cell_means(images).reshape(images.shape[0], -1)


def _cell_means(maps: Array) -> Array:
    """Means over 8x8 equal cells; the rest at the far edges is cut off -> [b, 8, 8, c]."""
    b, height, width, c = maps.shape
    high, wide = height // _GRID, width // _GRID
    cells = maps[:, : high * _GRID, : wide * _GRID]
    return cells.reshape(b, _GRID, high, _GRID, wide, c).mean(axis=(2, 4))


def hog(images: Array) -> Array:
    """Histograms of oriented gradients (Dalal & Triggs 2005): float [b, h, w, c] -> [b, 1764].

    8x8 cells whatever the size (sides must be at least 8), 9 unsigned orientations, 2x2 cells per
    block, blocks scaled to unit length, clipped at 0.2 and scaled again. With several channels, the
    steepest at each place counts.
    """
    # Central differences; none on the border.
    rows = jnp.pad(images[:, 2:] - images[:, :-2], ((0, 0), (1, 1), (0, 0), (0, 0)))
    columns = jnp.pad(images[:, :, 2:] - images[:, :, :-2], ((0, 0), (0, 0), (1, 1), (0, 0)))
    magnitude = jnp.hypot(rows, columns)
    steepest = jnp.argmax(magnitude, axis=3, keepdims=True)
    rows, columns, magnitude = (
        jnp.take_along_axis(values, steepest, axis=3)[..., 0]
        for values in (rows, columns, magnitude)
    )
    degrees = jnp.rad2deg(jnp.arctan2(rows, columns)) % 180
    bins = jnp.clip(jnp.floor(degrees * _BINS / 180).astype(jnp.int32), 0, _BINS - 1)
    votes = jax.nn.one_hot(bins, _BINS, dtype=magnitude.dtype) * magnitude[..., None]
    cells, last = _cell_means(votes), _GRID - 1
    corners = [cells[:, i : i + last, j : j + last] for i in (0, 1) for j in (0, 1)]
    blocks = jnp.stack(corners, axis=3).reshape(images.shape[0], last, last, -1)

    def unit(blocks: Array) -> Array:
        squares = jnp.sum(jnp.square(blocks), axis=3, keepdims=True)
        return blocks / jnp.sqrt(squares + _EPSILON**2)

    return unit(jnp.minimum(unit(blocks), _CLIP)).reshape(images.shape[0], -1)
