"""The distribution of images' values that a decoder's outputs stand for."""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core.types import DataSpec, Refit
from jaxclust.losses.reconstruction import bernoulli_error, reconstruction_error
from jaxclust.methods.parts.value_range import LOOK, Range, over

Decoder = Literal["auto", "bernoulli", "gaussian"]


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
        return LOOK if self.bernoulli else None

    def mean(self, decoded: Array, ranges: Range) -> Array:
        """The images that a decoder's outputs stand for, of the same shape."""
        if self.bernoulli:
            low, size = over(decoded, ranges)
            return low + size * jax.nn.sigmoid(decoded)
        return decoded

    def error(self, decoded: Array, images: Array, ranges: Range) -> Array:
        """Negative log-likelihood of images, without its constant: float []."""
        if self.bernoulli:
            low, size = over(images, ranges)
            # Outside the range, which not all images told, the error has no least value.
            return bernoulli_error(decoded, jnp.clip((images - low) / size, 0, 1))
        return reconstruction_error(decoded, images) / (2 * self.variance)
