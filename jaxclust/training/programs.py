"""A method's compiled programs: chunks of steps, predictions, refits; each compiled once.

Programs are kept by their method (`Method.programs`) and are found again by what they depend
on: the functions, how batches are drawn, the normalisation, the devices. So
DERC's rounds, evaluation, the end of a run and a second `fit` share them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxclust.core import collectives, device
from jaxclust.core.types import (
    Batch,
    Batches,
    Method,
    Phase,
    Prediction,
    Refit,
    Rows,
    Step,
    StepInfo,
    TrainState,
)
from jaxclust.images.normalisation import Normalisation, normalise
from jaxclust.training.parallel import AXIS, Group
from jaxclust.training.placement import Data

# Room for this many steps' reports in a chunk.
CAPACITY = 512
_Carry = tuple[TrainState, StepInfo]  # a state, and the reports of the steps up to it


def once(method: Method, key: tuple[Any, ...], make: Callable[[], Callable]) -> Callable:
    """A program of a method, made when first asked for.

    Args:
        method: the one that keeps it.
        key: what the program depends on; hashable.
        make: called if there is none yet.
    """
    key = (*key, tuple(sorted(device.compiler_options().items())))
    if key not in method.programs:
        method.programs[key] = make()
    return method.programs[key]


def init_of(method: Method, normalisation: Normalisation) -> Callable[[Array, Any], TrainState]:
    """(key, stored images [b, …]) -> the method's first state, compiled."""

    def init(key: Array, images: Array) -> TrainState:
        return method.init(key, normalise(images, normalisation))

    return once(method, ("init", normalisation), lambda: device.jit(init))


def refit_of(method: Method, refit: Refit) -> Callable[[TrainState, Any], TrainState]:
    """A refit's update, compiled unless it runs on the host."""
    if refit.on == "host":
        return refit.update
    return once(method, ("refit", refit.update), lambda: device.jit(refit.update))


def prediction_of(method: Method, data: Data) -> Callable[..., Prediction]:
    """:func:`prediction_program` of a method on data."""
    where = (data.normalisation, data.group, data.streamed)

    def make() -> Callable:
        return prediction_program(method, *where[:2], sharded=data.streamed)

    return once(method, ("predict", *where), make)


def chunk_of(method: Method, phase: Phase, data: Data, *, sharded: bool) -> Callable[..., Any]:
    """:func:`chunk_program` of one of a method's phases on data."""
    if phase.step is None:
        raise ValueError(f"phase '{phase.name}' has no step")
    step, batches, where = phase.step, phase.batches, (data.normalisation, data.group)

    def make() -> Callable:
        return chunk_program(step, batches, *where, sharded=sharded)

    return once(method, ("chunk", step, batches, *where, sharded), make)


def prediction_program(
    method: Method,
    normalisation: Normalisation,
    group: Group | None = None,
    *,
    sharded: bool = False,
) -> Callable[[TrainState, Any, np.ndarray], Prediction]:
    """The compiled prediction of rows int32 [b] of stored images [n, …].

    With a group, the rows are `group.shares` of them, and if `sharded` each device has images
    of its own.
    """

    def one(state: TrainState, images: Array, rows: Array) -> Prediction:
        prediction = method.predict(state, normalise(images[rows], normalisation))
        return prediction if group is None else collectives.gathered(prediction, AXIS)

    return device.jit(one) if group is None else group.pmap(one, (None, 0 if sharded else None, 0))


def chunk_program(
    step: Step,
    batches: Batches,
    normalisation: Normalisation,
    group: Group | None = None,
    *,
    sharded: bool = False,
) -> Callable[..., Any]:
    """The compiled loop over rows[start:stop]; traced once for all chunks of a phase.

    (state, images, rows [batches, b], places [batches, b], start, stop) -> (state, StepInfo
    with a leading axis of which the first stop - start entries are filled, whether every
    number of the state is finite). Rows are the data set's, places where those stand in
    `images`. With a group, both are `group.shares` of them, or `group.copies` where devices
    share inner batches; if `sharded`, each device has images of its own.
    """
    # jit, so that finding the report's shape and the loop share one trace.
    advance = _advance(jax.jit(step), batches, normalisation)

    def run(
        state: TrainState, images: Array, rows: Array, places: Array, start: Array, stop: Array
    ) -> tuple[TrainState, StepInfo, Array]:
        def draw(at: Array) -> Batch:
            return Batch(normalise(images[places[at]], normalisation), rows[at])

        _, report = jax.eval_shape(lambda: advance(state, draw(start), images))
        room = min(rows.shape[0] * batches.repeats, CAPACITY)
        empty = jax.tree.map(lambda leaf: jnp.zeros((room, *leaf.shape), leaf.dtype), report)

        def one(batch: Batch, i: Array, carry: _Carry) -> _Carry:
            state, report = advance(carry[0], batch, images)
            put = jax.tree.map(lambda all_, one: all_.at[i - start].set(one), carry[1], report)
            return state, put

        state, reports = _loop(one, draw, batches.repeats, (start, stop), (state, empty))
        return state, reports, _finite(state)

    if group is None:
        return device.jit(run, donate_argnums=0)
    return group.pmap(run, (None, 0 if sharded else None, 0, 0, None, None), donate=(0,))


def _loop(
    one: Callable[[Batch, Array, _Carry], _Carry],
    draw: Callable[[Array], Batch],
    repeats: int,
    ends: tuple[Array, Array],
    carry: _Carry,
) -> _Carry:
    """Steps from the first end to the second; a draw's images are gathered once for all its steps.

    Args:
        one: (draw, number of the step, carry) -> carry.
        draw: by its number.
        repeats: steps on a draw.
        ends: numbers of steps.
        carry: before the first step.
    """
    start, stop = ends

    def on_draw(at: Array, carry: _Carry) -> _Carry:
        batch = draw(at)
        if repeats == 1:
            return one(batch, at, carry)
        first, end = jnp.maximum(at * repeats, start), jnp.minimum((at + 1) * repeats, stop)
        return lax.fori_loop(first, end, partial(one, batch), carry)

    return lax.fori_loop(start // repeats, -(-stop // repeats), on_draw, carry)


def _advance(
    step: Step, batches: Batches, normalisation: Normalisation
) -> Callable[[TrainState, Batch, Array], tuple[TrainState, StepInfo]]:
    """A step on a batch, with what it also looks up in the images."""

    def advance(state: TrainState, batch: Batch, images: Array) -> tuple[TrainState, StepInfo]:
        if batches.extra is not None:
            extra = batches.extra(state, batch.rows)
            batch = batch._replace(extra=_gathered(extra, images, normalisation))
        return step(state, batch)

    return advance


def _gathered(extra: Any, images: Array, normalisation: Normalisation) -> Any:
    """An extra with its :class:`types.Rows` replaced by the normalised images of those rows."""
    return jax.tree.map(
        lambda leaf: (
            normalise(images[leaf.rows], normalisation) if isinstance(leaf, Rows) else leaf
        ),
        extra,
        is_leaf=lambda leaf: isinstance(leaf, Rows),
    )


def _finite(state: TrainState) -> Array:
    """Whether every number of the state is finite, bool []."""
    finite = [
        jnp.all(jnp.isfinite(leaf))
        for leaf in jax.tree.leaves(state)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return jnp.all(jnp.stack(finite))
