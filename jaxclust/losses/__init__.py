"""Pure loss functions: arrays in, arrays out."""

from jaxclust.losses.pairwise import (
    cosine_similarities,
    pairwise_bce,
    pairwise_squared_error,
    restrain,
    select_pairs,
    self_label_bce,
)
from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.losses.reconstruction import reconstruction_error

__all__ = [
    "cosine_similarities",
    "pairwise_bce",
    "pairwise_squared_error",
    "reconstruction_error",
    "restrain",
    "select_pairs",
    "self_label_bce",
    "sum_of_squared_errors",
]
