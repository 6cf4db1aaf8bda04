"""From stored pictures to what a network sees."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

# Images this many at a time when statistics are taken, to bound memory.
_BLOCK = 4096


class Normalisation(NamedTuple):
    """Per-channel mean and standard deviation of the stored values."""

    mean: np.ndarray  # float32 [c]
    std: np.ndarray  # float32 [c], positive

    def as_json(self) -> dict[str, list[float]]:
        """Plain lists, for the run's records."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}


def measure(images: np.ndarray) -> Normalisation:
    """Mean and standard deviation of each channel of images [n, h, w, c].

    One deviation for a constant channel is set to 1.
    """
    count = images[..., 0].size
    blocks = range(0, images.shape[0], _BLOCK)
    total = np.zeros(images.shape[-1])
    for i in blocks:
        total += images[i : i + _BLOCK].sum(axis=(0, 1, 2), dtype=np.float64)
    mean = total / count
    squares = np.zeros_like(mean)
    for i in blocks:
        centred = images[i : i + _BLOCK].astype(np.float64) - mean
        squares += np.square(centred).sum(axis=(0, 1, 2))
    std = np.sqrt(squares / count)
    return Normalisation(
        mean.astype(np.float32), np.where(std > 1e-12, std, 1.0).astype(np.float32)
    )


def normalise(images: Array, normalisation: Any) -> Array:
    """Stored images [b, h, w, c], any dtype -> float32 of zero mean, unit variance."""
    mean, std = (values.reshape(1, 1, 1, -1) for values in normalisation)
    return (images.astype(jnp.float32) - mean) / std


def resize_and_crop(picture: Image.Image, size: int) -> Image.Image:
    """The picture's shorter side resized to `size`, then the central square cut out."""
    width, height = picture.size
    scale = size / min(width, height)
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
