"""Reconstruction pre-training, the first phase of every method with an autoencoder."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.core import collectives
from jaxclust.core.types import Batches, Phase, PyTree
from jaxclust.images.augment import Affine, random_affine
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.methods.parts.gradient import Aux, Context, Views, gradient_step
from jaxclust.models.autoencoder import Coded

# (params, model_state, images, key) -> (Coded, new model_state), training mode
Reconstruct = Callable[[PyTree, PyTree, Array, Array], tuple[Coded, PyTree]]

PRETRAIN = "pretrain"  # name of the phase
# Epochs of DERC's autoencoder, and the least number of steps they must make.
USUAL = (30, 1000)


def epochs_or(asked: int | None, usual: tuple[int, int], batch_size: int, n_images: int) -> int:
    """The epochs asked for, or else as many as usual.

    Args:
        asked: None: use the usual number.
        usual: epochs, and minimum steps: a small set, which has few steps per epoch, gets as many
            epochs as those need.
        batch_size: images per step.
        n_images: number of images in the set.
    """
    if asked is not None:
        return asked
    an_epoch = -(-n_images // min(batch_size, n_images))
    return max(usual[0], -(-usual[1] // an_epoch))


def affine_views(ranges: Affine) -> Views | None:
    """Random affine views for a step; None where the ranges leave images as they are."""
    if not ranges.moves:
        return None
    return lambda key, images, places: random_affine(key, images, ranges, places)


def reconstruction_phase(
    reconstruct: Reconstruct,
    optimiser: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    ranges: Affine,
    noise: float = 0.0,
    axis_name: str | None = None,
) -> Phase:
    """A phase that trains an autoencoder on random affine views.

    The view is the target and, apart from the noise, the input. The state's `opt_state` must be
    `optimiser.init(params)` when the phase starts.

    Args:
        reconstruct: the autoencoder in training mode.
        optimiser: over the whole of the state's params.
        epochs: passes over the data.
        batch_size: images per step.
        ranges: extent of the views; `Affine()` trains on the plain images.
        noise: standard deviation of Gaussian noise on the input (Vincent et al. 2010's
            denoising autoencoder), of images whose values have unit variance.
        axis_name: mapped axis whose devices share a batch.
    """

    def loss(params: PyTree, at: Context) -> tuple[Array, Aux]:
        views = seen = at.batch.images
        if noise:
            seen += noise * collectives.normal_rows(at.draw("noise"), views, at.places)
        coded, model_state = reconstruct(params, at.state.model_state, seen, at.key)
        value = reconstruction_error(coded.decoded, views)
        terms = {"reconstruction": value}
        if coded.penalty is not None:
            terms["penalty"] = jnp.mean(coded.penalty)
            value += terms["penalty"]
        return value, Aux(model_state, terms)

    step = gradient_step(loss, optimiser, views=affine_views(ranges), axis_name=axis_name)
    return Phase(PRETRAIN, step, epochs, Batches(batch_size), pretrains=True, scored="never")
