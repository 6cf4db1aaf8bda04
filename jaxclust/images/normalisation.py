"""From stored values to what a network sees."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

# Images this many at a time when statistics are taken, to bound memory.
_BLOCK = 4096


class Normalisation(NamedTuple):
    """Per-channel mean and standard deviation of the stored values."""

    mean: np.ndarray  # float32 [c]
    std: np.ndarray  # float32 [c], positive

    def as_json(self) -> dict[str, list[float]]:
        """Plain lists, for the run's records."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}


def measure(images: Any) -> Normalisation:
    """Mean and standard deviation of each channel of images [n, h, w, c].

    One deviation for a constant channel is set to 1. Bytes are summed as integers, so
    that the order in which blocks come changes nothing.

    Args:
        images: an array, or what has a shape and a dtype and is read by slices of rows.
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
    mean, std = (v.reshape(1, 1, 1, -1).astype(jnp.float32) for v in normalisation)
    return (images.astype(jnp.float32) - mean) / std
