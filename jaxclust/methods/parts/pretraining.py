"""Reconstruction pre-training, the first phase of every method with an autoencoder."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.core import collectives
from jaxclust.core.collectives import normal_rows
from jaxclust.core.types import Batch, Phase, PyTree, StepInfo, TrainState
from jaxclust.images.augment import Affine, random_affine
from jaxclust.losses.reconstruction import reconstruction_error
from jaxclust.methods.parts.descent import descend
from jaxclust.models.autoencoder import Coded

# (params, model_state, images, key) -> (Coded, new model_state), training mode
Reconstruct = Callable[[PyTree, PyTree, Array, Array], tuple[Coded, PyTree]]


# Epochs of DERC's autoencoder, and the steps that they shall make at least.
USUAL = (30, 1000)


def epochs_or(asked: int | None, usual: tuple[int, int], batch_size: int, n_images: int) -> int:
    """The epochs asked for, or else as many as usual.

    Args:
        asked: None: nothing.
        usual: epochs, and steps: of a small set, which has few an epoch, as many epochs as
            make those.
        batch_size: images a step.
        n_images: of the set.
    """
    if asked is not None:
        return asked
    an_epoch = -(-n_images // min(batch_size, n_images))
    return max(usual[0], -(-usual[1] // an_epoch))


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

    The view is the target, and the input but for the noise. The state's `opt_state` must be
    `optimiser.init(params)` when the phase starts.

    Args:
        reconstruct: the autoencoder in training mode.
        optimiser: over the whole of the state's params.
        epochs: passes over the data.
        batch_size: images a step.
        ranges: extent of the views; `Affine()` trains on the plain images.
        noise: standard deviation of Gaussian noise on the input (Vincent et al. 2010's
            denoising autoencoder), of images whose values have unit variance.
        axis_name: mapped axis whose devices share a batch.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        view_key, network_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        places = collectives.positions(batch.images.shape[0], axis_name)
        views = random_affine(view_key, batch.images, ranges, places)
        seen = views
        if noise:
            noise_key = jax.random.fold_in(network_key, 1)
            seen += noise * normal_rows(noise_key, views, places)

        def loss_of(params: PyTree) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
            coded, model_state = reconstruct(params, state.model_state, seen, network_key)
            loss = reconstruction_error(coded.decoded, views)
            watch = {"reconstruction": loss}
            if coded.penalty is not None:
                watch["penalty"] = jnp.mean(coded.penalty)
                loss += watch["penalty"]
            return loss, (model_state, watch)

        done = descend(optimiser, loss_of, state, axis_name)
        watch = collectives.mean_over_devices(done.aux, axis_name) | done.norms
        return done.state.replace(step=state.step + 1), StepInfo(done.loss, watch)

    return Phase("pretrain", epochs, batch_size, step, scored=False)
