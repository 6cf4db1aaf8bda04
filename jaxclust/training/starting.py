"""The state a run starts from: fresh, after another run's pre-training, or a checkpoint's."""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxclust.core import keys
from jaxclust.core.types import Method, Refit, TrainState
from jaxclust.images.normalisation import normalise
from jaxclust.training.placement import Data
from jaxclust.training.programs import init_of
from jaxclust.training.warm_start import WarmStart


class Position(NamedTuple):
    """Where a run stands; together with the TrainState, all that resuming needs."""

    phase: int  # index into the method's phases
    step: int  # steps taken in it
    seconds: tuple[float, ...]  # spent so far, by phase
    begun: bool = False  # the phase's `begin` has run


# One, or those of `mapped.together`.
Seeds = Integral | int | Sequence[int]


def init(method: Method, data: Data, seed: Seeds, start: WarmStart | None = None) -> TrainState:
    """The method's state before its first phase, or after another run's pre-training."""
    state = init_of(method, data.normalisation)(keys.run_key(all_of(seed)[0]), data.images[:2])
    if start is not None:
        start.check(method, state)
        state = start.into(state, method.phases[0], len(data.images))
    return state if data.group is None else data.group.replicate(state)


def template(method: Method, data: Data, phase: int) -> TrainState:
    """Shapes and dtypes of the state inside a phase, without computing anything."""
    stored = jax.ShapeDtypeStruct((2, *data.images.shape[1:]), data.images.dtype)
    images = jax.eval_shape(lambda x: normalise(x, data.normalisation), stored)
    state = jax.eval_shape(method.init, jax.eval_shape(lambda: keys.run_key(0)), images)
    n = data.images.shape[0]
    for entered in method.phases[: phase + 1]:
        if entered.first is not None and entered.first.on == "device":
            state = _after(method, state, images, entered.first, n)
    return state


def _after(method: Method, state: Any, images: Any, refit: Refit, n: int) -> Any:
    """Shapes of the state after a refit."""
    example = jax.eval_shape(method.predict, state, images).features
    seen = n if refit.rows is None else min(n, refit.rows)
    features = jax.ShapeDtypeStruct((seen, *example.shape[1:]), example.dtype)
    return jax.eval_shape(refit.update, state, features)


# What reads the newest checkpoint, given the template of a phase: `Checkpoints.restore`.
Restore = Callable[[Callable[[int], TrainState]], "tuple[TrainState, Position] | None"]


def restored(method: Method, data: Data, restore: Restore) -> tuple[TrainState, Position] | None:
    """The state and position to continue from, on the data's devices; None to start afresh.

    With several processes, only the first reads the checkpoint; it tells the others.
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


def all_of(seed: Seeds) -> tuple[int, ...]:
    """The seeds, however many."""
    several: Any = seed
    return (int(several),) if isinstance(seed, Integral) else tuple(map(int, several))
