"""Pure loss functions: arrays in, arrays out."""

from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.losses.reconstruction import reconstruction_error

__all__ = ["reconstruction_error", "sum_of_squared_errors"]
