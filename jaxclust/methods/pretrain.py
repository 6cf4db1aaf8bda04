"""Reconstruction pre-training, the first phase of every method with an autoencoder."""

from collections.abc import Callable

import jax
import optax
from jax import Array

from jaxclust.base import Batch, Phase, PyTree, StepInfo, TrainState
from jaxclust.data.augment import Affine, random_affine
from jaxclust.losses.reconstruction import reconstruction_error

# (params, model_state, images, key) -> (decoded images, new model_state), training mode
Reconstruct = Callable[[PyTree, PyTree, Array, Array], tuple[Array, PyTree]]


def reconstruction_phase(
    reconstruct: Reconstruct,
    optimiser: optax.GradientTransformation,
    *,
    epochs: int,
    batch_size: int,
    ranges: Affine,
) -> Phase:
    """A phase that trains an autoencoder on random affine views.

    The view is both input and target. The state's `opt_state` must be
    `optimiser.init(params)` when the phase starts.

    Args:
        reconstruct: the autoencoder in training mode.
        optimiser: over the whole of the state's params.
        epochs: passes over the data.
        batch_size: images a step.
        ranges: extent of the views; `Affine()` trains on the plain images.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        view_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        views = random_affine(view_key, batch.images, ranges)

        def loss_of(params: PyTree) -> tuple[Array, PyTree]:
            decoded, model_state = reconstruct(params, state.model_state, views, dropout_key)
            return reconstruction_error(decoded, views), model_state

        (loss, model_state), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        state = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            model_state=model_state,
            opt_state=opt_state,
        )
        watch = {"reconstruction": loss, "gradient_norm": optax.tree.norm(gradients)}
        return state, StepInfo(loss, watch)

    return Phase("pretrain", epochs, batch_size, step)
