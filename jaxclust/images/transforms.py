"""From stored pictures to what a network sees."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

# Parts of red, green and blue in a grey value (ITU-R 601), as Pillow has them.
_LUMINANCE = (0.299, 0.587, 0.114)
# Images this many at a time when statistics are taken, to bound memory.
_BLOCK = 4096


class Normalisation(NamedTuple):
    """Per-channel mean and standard deviation of the stored values."""

    mean: np.ndarray  # float32 [c]
    std: np.ndarray  # float32 [c], positive

    def as_json(self) -> dict[str, list[float]]:
        """Plain lists, for the run's records."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}


def evenly_spread(n: int, count: int) -> np.ndarray:
    """Rows int [count] of n, spread evenly over their order; all of them if there are fewer."""
    count = min(count, n)
    return np.arange(count) * n // count


def measure(images: Any) -> Normalisation:
    """Mean and standard deviation of each channel of images [n, h, w, c].

    One deviation for a constant channel is set to 1. Bytes are summed as integers, so
    that the order in which blocks come changes nothing.

    Args:
        images: an array, or what is read block by block (:class:`pictures.Streamed`).
    """
    exact = images.dtype == np.uint8
    count = math.prod(images.shape[:3])
    blocks = range(0, images.shape[0], _BLOCK)
    wide = np.int64 if exact else np.float64
    total, squares = (np.zeros(images.shape[-1], wide) for _ in range(2))
    for i in blocks:
        block = images[i : i + _BLOCK]
        total += block.sum(axis=(0, 1, 2), dtype=wide)
        if exact:
            squares += np.einsum("nhwc,nhwc->c", block, block, dtype=np.int64, casting="safe")
    mean = total / count
    if exact:
        variance = squares / count - np.square(mean)
    else:
        for i in blocks:
            centred = images[i : i + _BLOCK].astype(np.float64) - mean
            squares += np.square(centred).sum(axis=(0, 1, 2))
        variance = squares / count
    std = np.sqrt(np.maximum(variance, 0))
    return Normalisation(mean.astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32))


def normalise(images: Array, normalisation: Any) -> Array:
    """Stored images [b, h, w, c], any dtype -> float32 of zero mean, unit variance."""
    mean, std = (values.reshape(1, 1, 1, -1) for values in normalisation)
    return (images.astype(jnp.float32) - mean) / std


def resize_and_crop(picture: Image.Image, size: int, margin: float = 1.0) -> Image.Image:
    """The picture's shorter side resized to `margin * size`, then the central square cut out.

    A margin of 8/7 is ImageNet's usual 256 for 224.
    """
    width, height = picture.size
    scale = round(size * margin) / min(width, height)
    resized = picture.resize(
        (max(size, round(width * scale)), max(size, round(height * scale))),
        Image.Resampling.BILINEAR,
    )
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    return resized.crop((left, top, left + size, top + size))


def resize_array(images: np.ndarray, size: int) -> np.ndarray:
    """`resize_and_crop` for images [n, h, w, c], uint8 or float32 -> [n, size, size, c]."""
    if images.shape[1:3] == (size, size):
        return images
    out = np.empty((images.shape[0], size, size, images.shape[3]), images.dtype)
    for i, image in enumerate(images):
        for channel in range(images.shape[3]):
            picture = Image.fromarray(image[..., channel])
            out[i, ..., channel] = np.asarray(resize_and_crop(picture, size))
    return out


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Images [n, h, w, c] with 1 or 3 channels: grey repeated, or colours' luminance."""
    if images.shape[3] == channels:
        return images
    if images.shape[3] == 1:
        return np.repeat(images, channels, axis=3)
    if (images.shape[3], channels) != (3, 1):
        return images
    grey = images @ np.array(_LUMINANCE, np.float32)
    grey = np.round(grey) if images.dtype == np.uint8 else grey
    return grey[..., None].astype(images.dtype)
