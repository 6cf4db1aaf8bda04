"""From stored values to what a network sees."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

# Images this many at a time when statistics are taken, to bound memory.
_BLOCK = 1024


class Normalisation(NamedTuple):
    """Mean and standard deviation of the stored values, as plain numbers so that it hashes.

    Per channel for images; per value for features.
    """

    mean: tuple[float, ...]  # float32's, c or d of them
    std: tuple[float, ...]  # positive

    def as_json(self) -> dict[str, list[float]]:
        """Plain lists, for the run's records."""
        return {"mean": list(self.mean), "std": list(self.std)}


def normalisation_of(mean: Any, std: Any) -> Normalisation:
    """A normalisation from arrays or lists [c]."""
    mean, std = (np.asarray(values, np.float32).ravel().tolist() for values in (mean, std))
    return Normalisation(tuple(mean), tuple(std))


def measure(images: Any) -> Normalisation:
    """Statistics of a set of images [n, h, w, c] or features [n, d].

    For images, each channel's mean and deviation; for features, each value's mean and one deviation
    for all, so that distances keep their proportions. The deviation of a constant channel is set to
    1. Bytes are summed as integers, so that the order in which blocks come changes nothing.

    Args:
        images: an array, or what is read block by block (`types.Source`).
    """
    count = math.prod(images.shape[:-1])
    exact = images.dtype == np.uint8
    mean = _summed(images, lambda x: x, exact) / count
    if exact:
        variance = _summed(images, np.square, exact) / count - np.square(mean)
    else:
        variance = _summed(images, lambda x: np.square(x - mean), exact) / count
    if len(images.shape) == 2:
        variance = np.full_like(variance, variance.mean())
    std = np.sqrt(np.maximum(variance, 0))
    return normalisation_of(mean, np.where(std > 1e-6, std, 1.0))


def _summed(images: Any, function: Callable[[np.ndarray], np.ndarray], exact: bool) -> np.ndarray:
    """The sum of a function of the values over all but the last axis, block by block."""
    wide = np.int64 if exact else np.float64
    total = np.zeros(images.shape[-1], wide)
    for i in range(0, images.shape[0], _BLOCK):
        block = np.asarray(images[i : i + _BLOCK]).astype(wide)
        total += function(block).sum(axis=tuple(range(block.ndim - 1)))
    return total


def normalise(images: Array, normalisation: Normalisation) -> Array:
    """Stored images [b, h, w, c] or features [b, d], any dtype -> float32, normalised."""
    shape = (1,) * (images.ndim - 1) + (-1,)
    mean, std = (np.asarray(values, np.float32).reshape(shape) for values in normalisation)
    return (images.astype(jnp.float32) - mean) / std
