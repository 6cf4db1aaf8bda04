"""Random views of images, on the device.

Draws and coordinates are float32, or float64 for float64 images, whatever JAX's default
float is. Products of coordinates ask for full precision: accelerators would round them to TF32
or bfloat16, which moves pixels by a visible fraction of their width.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.core.settings import setting

_EXACT = lax.Precision.HIGHEST


Resampling = Literal["bilinear", "nearest", "bilinear_everywhere"]


@dataclass(frozen=True)
class Affine:
    """Ranges of a random affine view; each value is drawn uniformly from +-range.

    Args:
        rotation: degrees.
        shift: fraction of the height and width, independently.
        zoom: scale factor in [1 - zoom, 1 + zoom].
        shear: horizontal shear, in widths per height.
        zoom_per_axis: draw the zoom of rows and of columns independently.
        resampling: how a place between pixels is read. bilinear: interpolated, which blurs.
            nearest: the nearest pixel. bilinear_everywhere: interpolated, and images that
            are not views are blurred as much on average (:func:`plain`).
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = setting(0.0, least=0, most=0.99)
    shear: float = 0.0
    zoom_per_axis: bool = False
    resampling: Resampling = "bilinear"

    @property
    def moves(self) -> bool:
        """Whether a view can differ from its image."""
        return any((self.rotation, self.shift, self.zoom, self.shear))


@dataclass(frozen=True)
class Augmentation:
    """Ranges of a random view: an affine warp, then changes of the values.

    The values are those the network sees (normalised images), so that brightness and
    the channel shift are in their units.
    """

    affine: Affine = field(default_factory=Affine)
    flip: bool = False
    """Mirror left and right, half of the time."""
    channel_shift: float = 0.0
    """Each channel is shifted by up to this much."""
    clip_shift: bool = False
    """Shifted values stay between the view's smallest and largest value before the shift."""
    brightness: float = 0.0
    """All channels are shifted together by up to this much."""
    contrast: float = 0.0
    """Distances from the image's mean grow or shrink by up to this fraction."""
    erasing: float = setting(0.0, least=0, most=1)
    """A rectangle of up to this fraction of each side is set to the image's mean."""
    value_factor: float = setting(1.0, above=0)
    """Values of the finished view are multiplied by this."""


def _wide(images: Array) -> Any:
    """The dtype of draws and coordinates for images of that dtype."""
    return jnp.float64 if images.dtype == jnp.float64 else jnp.float32


def affine_matrix(key: Array, ranges: Affine, dtype: Any = jnp.float32) -> Array:
    """Random map from output to input coordinates, [2, 3] of that dtype.

    Coordinates are (row, column) from the image's centre, in image heights and
    widths; the last column is the shift.

    Args:
        key: random key.
        ranges: extent of the view.
        dtype: float32 or float64.
    """
    draws = jax.random.uniform(key, (5,), dtype, minval=-1, maxval=1)
    angle, rows, columns, zoom, shear = draws
    radians = angle * jnp.deg2rad(ranges.rotation)
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    turn = jnp.array([[cos, -sin], [sin, cos]])
    slant = jnp.eye(2, dtype=dtype).at[1, 0].set(shear * ranges.shear)
    if ranges.zoom_per_axis:
        other = jax.random.uniform(jax.random.fold_in(key, 1), (), dtype, minval=-1, maxval=1)
        zoom = jnp.stack([zoom, other])[None]
    scale = 1 / (1 + zoom * ranges.zoom)
    shift = jnp.array([rows, columns]) * ranges.shift
    linear = jnp.matmul(turn, slant, precision=_EXACT) * scale
    return jnp.concatenate([linear, shift[:, None]], axis=1)


def warp(image: Array, matrix: Array, resampling: Resampling = "bilinear") -> Array:
    """Image [h, w, c] resampled at matrix [2, 3] of the output's grid.

    Places outside the image take its nearest edge value. Coordinates as in
    :func:`affine_matrix`; the identity matrix returns the image.

    Args:
        image: float [h, w, c].
        matrix: float32 or float64 [2, 3].
        resampling: between pixels; see :class:`Affine`.

    Returns:
        [h, w, c], of the image's dtype.
    """
    height, width, _ = image.shape
    low, high, part = _places(height, width, matrix)
    flat = image.reshape(height * width, -1)

    def at(row: Array, column: Array) -> Array:
        return flat[row * width + column]

    if resampling == "nearest":
        nearest = jnp.where(part < 0.5, low, high)
        return at(nearest[0], nearest[1]).reshape(image.shape)
    part = part.astype(image.dtype)
    right, down = part[1][:, None], part[0][:, None]
    top = at(low[0], low[1]) * (1 - right) + at(low[0], high[1]) * right
    bottom = at(high[0], low[1]) * (1 - right) + at(high[0], high[1]) * right
    return (top * (1 - down) + bottom * down).reshape(image.shape)


def _places(height: int, width: int, matrix: Array) -> tuple[Array, Array, Array]:
    """Where each output pixel is read: two rows and columns, and how far between them.

    Returns:
        (lower and higher row and column, int32 [2, h * w] each; the higher's share, of the
        matrix's dtype [2, h * w]).
    """
    size = jnp.array([[height], [width]], matrix.dtype)
    centre = (size - 1) / 2
    rows, columns = jnp.meshgrid(
        jnp.arange(height, dtype=matrix.dtype), jnp.arange(width, dtype=matrix.dtype), indexing="ij"
    )
    grid = (jnp.stack([rows, columns]).reshape(2, -1) - centre) / size
    # Heights and widths differ; the turn must act on equal units.
    unit = size / jnp.max(size)
    source = jnp.matmul(matrix[:, :2], grid * unit, precision=_EXACT) / unit + matrix[:, 2:]
    source = jnp.clip(source * size + centre, 0, size - 1)
    low = jnp.clip(jnp.floor(source), 0, jnp.maximum(size - 2, 0))
    part = source - low
    low, last = low.astype(jnp.int32), (size - 1).astype(jnp.int32)
    return low, jnp.minimum(low + 1, last), part


def random_affine(
    key: Array, images: Array, ranges: Affine, positions: Array | None = None
) -> Array:
    """A random affine view of each of images [b, h, w, c].

    Each image's draw is keyed by its position in the batch, so that splitting the
    batch over devices changes nothing.

    Args:
        key: random key.
        images: float [b, h, w, c].
        ranges: extent of the views.
        positions: int [b], where each stands in the whole batch; default 0, 1, ….

    Returns:
        [b, h, w, c], of the images' dtype.
    """
    if not ranges.moves:
        return images
    positions = jnp.arange(images.shape[0], dtype=jnp.int32) if positions is None else positions

    def view(position: Array, image: Array) -> Array:
        key_here = jax.random.fold_in(key, position)
        return warp(image, affine_matrix(key_here, ranges, _wide(images)), ranges.resampling)

    return jax.vmap(view)(positions, images)


def plain(images: Array, ranges: Affine) -> Array:
    """Images that are not views, for a network that learns from such views.

    With `bilinear_everywhere` they are blurred as interpolation at a random place between
    pixels blurs on average: one eighth of each neighbour along rows and columns. Otherwise
    they stay as they are.

    Args:
        images: float [b, h, w, c]; features [b, d] stay as they are.
        ranges: of the views.

    Returns:
        The same shape and dtype.
    """
    if ranges.resampling != "bilinear_everywhere" or not ranges.moves or images.ndim != 4:
        return images
    for axis in (1, 2):
        first, last = (jnp.take(images, jnp.array([i]), axis=axis) for i in (0, -1))
        before = jnp.concatenate([first, images], axis=axis)
        after = jnp.concatenate([images, last], axis=axis)
        size = images.shape[axis]
        before = jax.lax.slice_in_dim(before, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(after, 1, size + 1, axis=axis)
        images = 0.75 * images + 0.125 * (before + after)
    return images


def change_values(key: Array, image: Array, ranges: Augmentation) -> Array:
    """All of a view except the warp, of image [h, w, c], dtype kept."""

    def draw(key: Array, shape: tuple[int, ...] = ()) -> Array:
        values = jax.random.uniform(key, shape, _wide(image), minval=-1, maxval=1)
        return values.astype(image.dtype)

    flip_key, contrast_key, bright_key, shift_key, erase_key = jax.random.split(key, 5)
    if ranges.flip:
        image = jnp.where(jax.random.bernoulli(flip_key, jnp.float32(0.5)), image[:, ::-1], image)
    mean = jnp.mean(image, axis=(0, 1), keepdims=True)
    if ranges.contrast:
        image = mean + (image - mean) * (1 + draw(contrast_key) * ranges.contrast)
    if ranges.brightness:
        image += draw(bright_key) * ranges.brightness
    if ranges.channel_shift:
        shifted = image + draw(shift_key, (1, 1, image.shape[-1])) * ranges.channel_shift
        image = jnp.clip(shifted, image.min(), image.max()) if ranges.clip_shift else shifted
    if ranges.erasing:
        inside = [
            _span(jax.random.fold_in(erase_key, axis), image.shape[axis], ranges.erasing)
            for axis in range(2)
        ]
        hidden = inside[0][:, None, None] & inside[1][None, :, None]
        image = jnp.where(hidden, mean, image)
    return image * ranges.value_factor if ranges.value_factor != 1 else image


def _span(key: Array, length: int, largest: float) -> Array:
    """A random stretch of at most that fraction of the length, bool [length]."""
    size_key, start_key = jax.random.split(key)
    size = jax.random.uniform(size_key, (), jnp.float32) * largest * length
    start = jax.random.uniform(start_key, (), jnp.float32) * (length - size)
    centres = jnp.arange(length, dtype=jnp.float32) + 0.5
    return (centres >= start) & (centres < start + size)


def augment(
    key: Array, images: Array, ranges: Augmentation, positions: Array | None = None
) -> Array:
    """A random view of each of images [b, h, w, c]; arguments as in :func:`random_affine`."""
    affine_key, value_key = jax.random.split(key)
    images = random_affine(affine_key, images, ranges.affine, positions)
    if replace(ranges, affine=Affine()) == Augmentation():
        return images
    positions = jnp.arange(images.shape[0], dtype=jnp.int32) if positions is None else positions

    def view(position: Array, image: Array) -> Array:
        return change_values(jax.random.fold_in(value_key, position), image, ranges)

    return jax.vmap(view)(positions, images)
