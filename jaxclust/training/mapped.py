"""Runs that differ only in their seed, as one program: a method mapped over seeds.

The mapped method is a method like any other, whose state has a leading axis of seeds on every leaf
except the step counter, whose predictions have one after the axis of images, and whose batches are
those of all seeds in a row. `training.fit` runs it unchanged.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core import keys
from jaxclust.core.types import (
    Batch,
    Method,
    Phase,
    Prediction,
    Refit,
    Step,
    StepInfo,
    TrainState,
)
from jaxclust.training.placement import Data
from jaxclust.training.programs import chunk_program
from jaxclust.training.starting import template

# All seeds share the counter, so that what depends only on it stays a branch and does not become a
# choice between two results.
_STATE: Any = TrainState
_AXES: Any = _STATE(
    step=None, key=0, params=0, model_state=0, opt_state=0, cluster=0, usage=0, last=0
)


def can_share(method: Method) -> bool:
    """Whether a method's seeds can be one program: no part of it runs on the host."""
    refits = [refit for phase in method.phases for refit in (phase.first, phase.between)]
    return not any(refit is not None and refit.on == "host" for refit in refits)


def convolves(method: Method, data: Data) -> bool:
    """Whether a step of the method has a convolution; traced, not compiled.

    Mapped over seeds, it has a kernel for each: a grouped convolution, for which cuDNN is much
    slower than for plain ones. A dense layer becomes a batched matrix product, which is no slower.
    """
    images = jax.ShapeDtypeStruct(data.images.shape, data.images.dtype)
    for i, phase in enumerate(method.phases):
        if phase.step is None:
            continue
        each = (1, phase.batches.size)
        rows = jax.ShapeDtypeStruct(each, jnp.int32)
        at = jax.ShapeDtypeStruct((), jnp.int32)
        chunk: Any = chunk_program(phase.step, phase.batches, data.normalisation)
        traced = chunk.trace(template(method, data, i), images, rows, rows, at, at)
        if "conv_general_dilated" in str(traced.jaxpr):
            return True
    return False


def together(method: Method, seeds: Sequence[int]) -> Method:
    """The method for several seeds at once; the same seeds give the same object again.

    A seed whose phase is over waits unchanged until the others are done.

    Args:
        method: see :func:`can_share`.
        seeds: two or more; `training.fit` is given the same.
    """
    key = ("together", *seeds)
    if key not in method.programs:
        method.programs[key] = _together(method, seeds)
    return method.programs[key]


def _together(method: Method, seeds: Sequence[int]) -> Method:
    def init(key: Array, images: Array) -> TrainState:
        del key  # each seed has its own
        own = jnp.stack([keys.run_key(seed) for seed in seeds])
        return jax.vmap(method.init, (0, None), _AXES)(own, images)

    def predict(state: TrainState, images: Array) -> Prediction:
        return jax.vmap(method.predict, (_AXES, None), 1)(state, images)

    steps: dict[Any, Step] = {}
    phases = tuple(_mapped(phase, len(seeds), steps) for phase in method.phases)
    return Method(init, predict, phases, method.artifacts, method.normalisation)


def of_seed(tree: Any, i: int) -> Any:
    """The i-th seed's state, out of all seeds' states."""
    state: TrainState = jax.tree.map(lambda leaf: leaf[i], tree.replace(step=None))
    return state.replace(step=tree.step)


def prediction_of_seed(prediction: Prediction, i: int) -> Prediction:
    """The i-th seed's prediction, out of all seeds' predictions."""
    return jax.tree.map(lambda leaf: leaf[:, i], prediction)


def _mapped(phase: Phase, count: int, steps: dict[Any, Step]) -> Phase:
    """A phase of all seeds; phases with the same step share the mapped one too."""
    until = phase.until
    kept = _keeping(until)
    if phase.step is not None and (phase.step, until) not in steps:
        steps[phase.step, until] = _mapped_step(phase.step, count, kept)
    return phase._replace(
        step=steps.get((phase.step, until)),
        batches=phase.batches._replace(extra=_mapped_extra(phase.batches.extra, count)),
        first=_mapped_refit(phase.first, lambda _, after: after),
        between=_mapped_refit(phase.between, kept),
        until=None if until is None else lambda s: jnp.all(jax.vmap(until, (_AXES,))(s)),
    )


Keep = Callable[[TrainState, TrainState], TrainState]


def _keeping(until: Callable[[TrainState], Array] | None) -> Keep:
    """(before, after) -> after; or, for a seed that was over, the state before."""

    def kept(before: TrainState, after: TrainState) -> TrainState:
        if until is None:
            return after
        # What ends a phase is decided between epochs.
        over = until(before)
        held = jax.tree.map(
            lambda old, new: jnp.where(over, old, new),
            before.replace(step=None),
            after.replace(step=None),
        )
        return held.replace(step=after.step)

    return kept


def _apart(tree: Any, count: int) -> Any:
    """Each seed's part [count, b, …] of what all seeds have in a row [count * b, …]."""
    return jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), tree)


def _mapped_step(step: Step, count: int, kept: Keep) -> Step:
    def one(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        after, info = step(state, batch)
        return kept(state, after), info

    def all_seeds(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        return jax.vmap(one, (_AXES, 0), (_AXES, 0))(state, _apart(batch, count))

    return all_seeds


Extra = Callable[[TrainState, Array], Any]


def _mapped_extra(extra: Extra | None, count: int) -> Extra | None:
    if extra is None:
        return None

    def all_seeds(state: TrainState, rows: Array) -> Any:
        found = jax.vmap(extra, (_AXES, 0))(state, _apart(rows, count))
        # In a row like the batch.
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)

    return all_seeds


def _mapped_refit(refit: Refit | None, keep: Keep) -> Refit | None:
    if refit is None:
        return None

    def one(state: TrainState, features: Array) -> TrainState:
        return keep(state, refit.update(state, features))

    # Each seed has its own features; all share the images.
    seen = None if refit.sees == "images" else 1
    return refit._replace(update=jax.vmap(one, (_AXES, seen), _AXES))
