"""One optimiser step on a loss, as every method takes it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jax import Array

from jaxclust.core import collectives
from jaxclust.core.types import PyTree, TrainState

# params -> (loss [], (model_state after the pass, whatever else is wanted))
Loss = Callable[[PyTree], tuple[Array, tuple[PyTree, Any]]]


class Descent(NamedTuple):
    """What a step of the optimiser leads to."""

    state: TrainState  # params, model_state and opt_state changed, nothing else
    loss: Array  # float []: before the step
    aux: Any  # what the loss function returned beside it
    updates: PyTree  # what was added to the params
    norms: dict[str, Array]  # of gradient and update


def descend(
    optimiser: optax.GradientTransformation,
    loss_of: Loss,
    state: TrainState,
    axis_name: str | None = None,
) -> Descent:
    """One step of the optimiser on a loss of the state's params.

    Args:
        optimiser: whose state is the state's opt_state.
        loss_of: see :data:`Loss`.
        state: where to step from.
        axis_name: mapped axis whose devices' losses and gradients are averaged.
    """
    (loss, (model_state, aux)), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    loss, gradients = collectives.mean_over_devices((loss, gradients), axis_name)
    updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
    after = state.replace(
        params=optax.apply_updates(state.params, updates),
        model_state=model_state,
        opt_state=opt_state,
    )
    norms = {
        "gradient_norm": optax.tree.norm(gradients),
        "update_norm": optax.tree.norm(updates),
    }
    return Descent(after, loss, aux, updates, norms)
