"""The state a run starts from: fresh, after a pre-training done elsewhere, or a checkpoint's."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.core import device
from jaxclust.core.types import Method, TrainState
from jaxclust.images.normalisation import normalise
from jaxclust.training.feed import Data
from jaxclust.training.warm_start import WarmStart


class Position(NamedTuple):
    """Where a run stands; with the TrainState all that resuming needs."""

    phase: int  # index into the method's phases
    step: int  # steps taken in it
    seconds: tuple[float, ...]  # spent so far, by phase
    begun: bool = False  # the phase's `begin` has run


# One, or those of `together.together`.
Seeds = Integral | int | Sequence[int]


def init(method: Method, data: Data, seed: Seeds, start: WarmStart | None = None) -> TrainState:
    """The method's state before its first phase, or after a pre-training done elsewhere."""
    state = device.jit(method.init)(jax.random.PRNGKey(all_of(seed)[0]), _example(data))
    if start is not None:
        start.check(method, state)
        state = start.into(state)
    return state if data.group is None else data.group.replicate(state)


def template(method: Method, data: Data, phase: int) -> TrainState:
    """Shapes and dtypes of the state inside a phase, without computing anything."""
    state = jax.eval_shape(method.init, jax.random.PRNGKey(0), _example(data))
    n = data.images.shape[0]
    for entered in method.phases[: phase + 1]:
        if entered.begin is not None and not entered.on_host:
            example = jax.eval_shape(method.predict, state, _example(data)).features
            seen = n if entered.sample is None else min(n, entered.sample)
            features = jax.ShapeDtypeStruct((seen, *example.shape[1:]), example.dtype)
            state = jax.eval_shape(entered.begin, state, features)
    return state


# What reads the newest checkpoint, given the template of a phase: `Checkpoints.restore`.
Restore = Callable[[Callable[[int], TrainState]], "tuple[TrainState, Position] | None"]


def restored(method: Method, data: Data, restore: Restore) -> tuple[TrainState, Position] | None:
    """The state and position to go on from, on the data's devices; None to start anew.

    Of several processes the first alone reads the checkpoint and tells the others.
    """

    def expected(phase: int) -> TrainState:
        return template(method, data, phase)

    group = data.group
    if group is None:
        return restore(expected)
    found = restore(expected) if group.process == 0 else None
    # Whether there is one, its phase, step and begun, and the seconds of each phase.
    header = np.full(4 + len(method.phases) + 1, -1.0)

    def described() -> np.ndarray:
        if found is not None:
            at = found[1]
            header[:4] = 1, at.phase, at.step, at.begun
            header[4 : 4 + len(at.seconds)] = at.seconds
        return header

    header = group.told(described, header)
    if header[0] < 0:
        return None
    seconds = tuple(float(value) for value in header[4:] if value >= 0)
    position = Position(int(header[1]), int(header[2]), seconds, bool(header[3]))

    def state() -> TrainState:
        assert found is not None  # of the first process, which alone is asked
        return found[0]

    return group.replicate(group.told(state, expected(position.phase))), position


def _example(data: Data) -> Array:
    return normalise(jnp.asarray(data.images[:2]), data.normalisation)


def all_of(seed: Seeds) -> tuple[int, ...]:
    """The seeds, however many."""
    several: Any = seed
    return (int(several),) if isinstance(seed, Integral) else tuple(map(int, several))
