"""Random views of images, on the device."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array


@dataclass(frozen=True)
class Affine:
    """Ranges of a random affine view; each value is drawn uniformly from +-range.

    Args:
        rotation: degrees.
        shift: fraction of the height and width, independently.
        zoom: scale factor in [1 - zoom, 1 + zoom].
        shear: horizontal shear, in widths a height.
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0


def affine_matrix(key: Array, ranges: Affine) -> Array:
    """Random map from output to input coordinates, float [2, 3].

    Coordinates are (row, column) from the image's centre, in image heights and
    widths; the last column is the shift.
    """
    angle, rows, columns, zoom, shear = jax.random.uniform(key, (5,), minval=-1, maxval=1)
    radians = angle * jnp.deg2rad(ranges.rotation)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    turn = jnp.array([[cos, -sin], [sin, cos]])
    slant = jnp.array([[1.0, 0.0], [0.0, 1.0]]).at[1, 0].set(shear * ranges.shear)
    scale = 1 / (1 + zoom * ranges.zoom)
    shift = jnp.array([rows, columns]) * ranges.shift
    return jnp.concatenate([turn @ slant * scale, shift[:, None]], axis=1)


def warp(image: Array, matrix: Array) -> Array:
    """Bilinear resampling of image [h, w, c] at matrix [2, 3] of the output's grid.

    Places outside the image take its nearest edge value. Coordinates as in
    :func:`affine_matrix`; the identity matrix returns the image.
    """
    height, width, _ = image.shape
    size = jnp.array([height, width])
    centre = (size - 1) / 2
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    grid = (jnp.stack([rows, columns]).reshape(2, -1) - centre[:, None]) / size[:, None]
    # Heights and widths differ; the turn must act on equal units.
    unit = (size / jnp.max(size))[:, None]
    source = (matrix[:, :2] @ (grid * unit)) / unit + matrix[:, 2:]
    source = source * size[:, None] + centre[:, None]
    source = jnp.clip(source, 0, (size - 1)[:, None])
    low = jnp.clip(jnp.floor(source), 0, jnp.maximum(size - 2, 0)[:, None])
    part = (source - low).astype(image.dtype)
    low = low.astype(jnp.int32)
    high = jnp.minimum(low + 1, size[:, None] - 1)
    flat = image.reshape(height * width, -1)

    def at(row: Array, column: Array) -> Array:
        return flat[row * width + column]

    right, down = part[1][:, None], part[0][:, None]
    top = at(low[0], low[1]) * (1 - right) + at(low[0], high[1]) * right
    bottom = at(high[0], low[1]) * (1 - right) + at(high[0], high[1]) * right
    return (top * (1 - down) + bottom * down).reshape(image.shape)


def random_affine(key: Array, images: Array, ranges: Affine) -> Array:
    """A random affine view of each of images [b, h, w, c].

    Each image's draw is keyed by its position in the batch, so that splitting the
    batch over devices changes nothing.
    """
    if ranges == Affine():
        return images

    def view(position: Array, image: Array) -> Array:
        return warp(image, affine_matrix(jax.random.fold_in(key, position), ranges))

    return jax.vmap(view)(jnp.arange(images.shape[0]), images)
