"""Where a data set's values lie, for networks that decode values within bounds."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxclust.core.types import Refit, TrainState

# Images whose values tell the range; all of a large set would have to be held at once.
_IMAGES = 4096


class Range(NamedTuple):
    """Where a data set's values lie; a state's `model_state`."""

    low: Array  # float [channels]
    size: Array  # float [channels], positive


def unknown(channels: int) -> Range:
    """Before any image is seen."""
    return Range(jnp.zeros(channels, jnp.float32), jnp.ones(channels, jnp.float32))


def _look(state: TrainState, images: Array) -> TrainState:
    """The state with the range of images float [n, values]."""
    values = images.reshape(-1, state.model_state.low.shape[0])
    low, high = values.min(axis=0), values.max(axis=0)
    return state.replace(model_state=Range(low, jnp.maximum(high - low, 1e-6)))


# Before a phase that needs the range.
LOOK = Refit(_look, rows=_IMAGES, sees="images")


def over(images: Array, ranges: Range) -> tuple[Array, Array]:
    """The range's start and size in the images' shape."""
    low, size = (jnp.broadcast_to(end, images.shape) for end in ranges)
    return low, size


def around_grey(images: Array, ranges: Range) -> Array:
    """Images between -1, the darkest value, and 1, the lightest, of the same shape."""
    low, size = over(images, ranges)
    return 2 * (images - low) / size - 1
