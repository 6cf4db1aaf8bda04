"""The train step that all methods share: views, gradient, update, bookkeeping."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering import health
from jaxclust.core import collectives, keys
from jaxclust.core.types import Batch, LastUpdate, PyTree, Step, StepInfo, TrainState

# (key, images [b, …], places int [b]) -> images in their place
Views = Callable[[Array, Array, Array], Array]


class Context(NamedTuple):
    """What a loss sees besides the parameters."""

    state: TrainState  # before the step
    batch: Batch  # this device's part of it; its images are views where the step makes any
    places: Array  # int32 [b]: where its images stand in the whole batch
    key: Array  # of the network's own noise

    def draw(self, purpose: str) -> Array:
        """The key for one of the loss's own draws; see :func:`keys.of`."""
        return keys.of(self.state, purpose)


class Aux(NamedTuple):
    """What a loss returns besides its value."""

    model_state: PyTree  # the network's collections after the pass
    terms: dict[str, Array]  # scalars worth logging, by name; averaged over devices
    # int [b] of this device's part; counted in the state's usage
    assignments: Array | None = None


# (params, context) -> (loss [], aux)
Loss = Callable[[PyTree, Context], tuple[Array, Aux]]


def gradient_step(
    loss: Loss,
    optimiser: optax.GradientTransformation,
    *,
    views: Views | None = None,
    axis_name: str | None = None,
    keep_updates: bool = False,
) -> Step:
    """An optimiser step on a loss of the state's params: (state, batch) -> (state, info).

    Args:
        loss: see :data:`Loss`.
        optimiser: its state is the state's opt_state.
        views: random views that the loss sees instead of the images.
        axis_name: mapped axis whose devices' losses and gradients are averaged.
        keep_updates: leave a `LastUpdate` in `state.last`, where :func:`no_update` was.
    """

    slope = jax.value_and_grad(loss, has_aux=True)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        at = _context(state, batch, views, axis_name)
        (value, aux), gradients = slope(state.params, at)
        mine = (value, gradients, aux.terms)
        value, gradients, terms = collectives.mean_over_devices(mine, axis_name)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        after = state.replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            model_state=aux.model_state,
            opt_state=opt_state,
            last=LastUpdate(updates, state.model_state) if keep_updates else state.last,
        )
        watch = {**terms, **_norms(gradients, updates)}
        if aux.assignments is not None:
            after = counted(after, aux.assignments, axis_name)
            watch |= health.cluster_health(after.usage)
        return after, StepInfo(value, watch)

    return step


def _context(
    state: TrainState, batch: Batch, views: Views | None, axis_name: str | None
) -> Context:
    places = collectives.positions(batch.images.shape[0], axis_name)
    if views is not None:
        batch = batch._replace(images=views(keys.of(state, "views"), batch.images, places))
    return Context(state, batch, places, keys.of(state, "network"))


def _norms(gradients: PyTree, updates: PyTree) -> dict[str, Array]:
    return {
        "gradient_norm": optax.tree.norm(gradients),
        "update_norm": optax.tree.norm(updates),
    }


def no_update(state: TrainState) -> LastUpdate:
    """`state.last` before the first step of a phase that keeps its updates."""
    return LastUpdate(jax.tree.map(jnp.zeros_like, state.params), state.model_state)


def counted(state: TrainState, assignments: Array, axis_name: str | None = None) -> TrainState:
    """The state with a batch's assignments, int [b] of this device's part, in its usage."""
    everyone = collectives.gathered(assignments, axis_name)
    return state.replace(usage=health.update_usage(state.usage, everyone))
