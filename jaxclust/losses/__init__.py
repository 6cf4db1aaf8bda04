"""Pure loss functions: arrays in, arrays out.

All compute in the dtype of their first argument. Each checks ranks, shapes and dtypes where
it is called or traced, at no cost to compiled programs; under `jax.vmap` those are a single
example's. What does not fit raises an AssertionError that names it.
"""

from jaxclust.losses.adversarial import discriminator_bce, generator_bce, virtual_adversarial
from jaxclust.losses.dec import kl_divergence, student_t_assignment, target_distribution
from jaxclust.losses.entropy import assignment_entropy
from jaxclust.losses.mixture_prior import mixture_divergence, mixture_log_density
from jaxclust.losses.pairwise import (
    cosine_similarities,
    pairwise_absolute_error,
    pairwise_bce,
    pairwise_squared_error,
    restrain,
    select_pairs,
    self_label_bce,
)
from jaxclust.losses.pseudo_label import sum_of_squared_errors
from jaxclust.losses.reconstruction import bernoulli_error, reconstruction_error
from jaxclust.losses.temi import neighbour_information
from jaxclust.losses.triplet import batch_triplet, triplet_separation, weighted_triplet

__all__ = [
    "assignment_entropy",
    "batch_triplet",
    "bernoulli_error",
    "cosine_similarities",
    "discriminator_bce",
    "generator_bce",
    "kl_divergence",
    "mixture_divergence",
    "mixture_log_density",
    "neighbour_information",
    "pairwise_absolute_error",
    "pairwise_bce",
    "pairwise_squared_error",
    "reconstruction_error",
    "restrain",
    "select_pairs",
    "self_label_bce",
    "student_t_assignment",
    "sum_of_squared_errors",
    "target_distribution",
    "triplet_separation",
    "virtual_adversarial",
    "weighted_triplet",
]
