"""The distribution of images' values that a decoder's outputs stand for."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core.types import DataSpec, Refit, TrainState
from jaxclust.losses.reconstruction import bernoulli_error, reconstruction_error

Decoder = Literal["auto", "bernoulli", "gaussian"]
# Images whose values tell the range; all of a large set would have to be held at once.
_IMAGES = 4096


class Range(NamedTuple):
    """Where a data set's values lie; a state's `model_state`."""

    low: Array  # float [channels]
    size: Array  # float [channels], positive


def unknown(channels: int) -> Range:
    """Before any image is seen."""
    return Range(jnp.zeros(channels, jnp.float32), jnp.ones(channels, jnp.float32))


def look(state: TrainState, images: Array) -> TrainState:
    """The state with the range of images float [n, values]; a `Refit` that sees images."""
    values = images.reshape(-1, state.model_state.low.shape[0])
    low, high = values.min(axis=0), values.max(axis=0)
    return state.replace(model_state=Range(low, jnp.maximum(high - low, 1e-6)))


@dataclass(frozen=True)
class Likelihood:
    """A Gaussian around each output, or a Bernoulli distribution of which it is the logit."""

    bernoulli: bool
    variance: float  # of the Gaussian

    @classmethod
    def of(cls, decoder: Decoder, variance: float, spec: DataSpec) -> "Likelihood":
        """The one that a setting names; "auto" is Bernoulli's for images, Gauss's for features."""
        images = len(spec.shape) == 3
        return cls(decoder == "bernoulli" or (decoder == "auto" and images), variance)

    def first(self) -> Refit | None:
        """What must come before the first step: the range, where it is used."""
        return Refit(look, rows=_IMAGES, sees="images") if self.bernoulli else None

    def mean(self, decoded: Array, ranges: Range) -> Array:
        """The images that a decoder's outputs stand for, of the same shape."""
        if self.bernoulli:
            low, size = _over(decoded, ranges)
            return low + size * jax.nn.sigmoid(decoded)
        return decoded

    def error(self, decoded: Array, images: Array, ranges: Range) -> Array:
        """Negative log-likelihood of images, without its constant: float []."""
        if self.bernoulli:
            low, size = _over(images, ranges)
            return bernoulli_error(decoded, (images - low) / size)
        return reconstruction_error(decoded, images) / (2 * self.variance)


def _over(images: Array, ranges: Range) -> tuple[Array, Array]:
    """The range's start and size in the images' shape."""
    low, size = (jnp.broadcast_to(end, images.shape) for end in ranges)
    return low, size
