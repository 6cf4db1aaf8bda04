"""Runs that differ by their seed alone, as one program: a method mapped over seeds.

The mapped method is a method like any other, whose state has a leading axis of seeds on
every leaf but the step counter, whose predictions have one behind the axis of images, and
whose batches are those of all seeds in a row. `train.fit` runs it unchanged.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxclust.core.types import Batch, Method, Phase, Prediction, Step, StepInfo, TrainState

# The counter is one for all seeds, so that what depends on it alone stays a branch and
# does not become a choice between two results.
_STATE: Any = TrainState
_AXES: Any = _STATE(step=None, key=0, params=0, model_state=0, opt_state=0, cluster=0)


def can_share(method: Method) -> bool:
    """Whether a method's seeds can be one program: nothing of it runs on the host."""
    return not any(phase.on_host for phase in method.phases)


def together(method: Method, seeds: Sequence[int]) -> Method:
    """The method for several seeds at once.

    A seed whose phase is finished stays as it is until the others are.

    Args:
        method: see :func:`can_share`.
        seeds: two or more; `train.fit` is given the same.
    """
    count = len(seeds)

    def init(key: Array, images: Array) -> TrainState:
        del key  # each seed has its own
        keys = jnp.stack([jax.random.PRNGKey(seed) for seed in seeds])
        return jax.vmap(method.init, (0, None), _AXES)(keys, images)

    def predict(state: TrainState, images: Array) -> Prediction:
        return jax.vmap(method.predict, (_AXES, None), 1)(state, images)

    phases = tuple(_mapped(phase, count) for phase in method.phases)
    return Method(init, predict, phases, method.normalisation)


def of_seed(tree: Any, i: int) -> Any:
    """The i-th seed's state, of all seeds'."""
    state: TrainState = jax.tree.map(lambda leaf: leaf[i], tree.replace(step=None))
    return state.replace(step=tree.step)


def prediction_of_seed(prediction: Prediction, i: int) -> Prediction:
    """The i-th seed's prediction, of all seeds'."""
    return jax.tree.map(lambda leaf: leaf[:, i], prediction)


def _mapped(phase: Phase, count: int) -> Phase:
    finished = phase.finished

    def kept(before: TrainState, after: TrainState) -> TrainState:
        """Of seeds that had finished, the state before."""
        if finished is None:
            return after
        # What finishes a phase is decided between epochs; none has before its first.
        done = finished(before)
        held = jax.tree.map(
            lambda old, new: jnp.where(done, old, new),
            before.replace(step=None),
            after.replace(step=None),
        )
        return held.replace(step=after.step)

    def one_step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        assert phase.step is not None
        after, info = phase.step(state, batch)
        return kept(state, after), info

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepInfo]:
        own = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), batch)
        return jax.vmap(one_step, (_AXES, 0), (_AXES, 0))(state, own)

    def between(
        function: Callable[[TrainState, Any], TrainState] | None,
        keep: Callable[[TrainState, TrainState], TrainState],
    ) -> Callable[[TrainState, Any], TrainState] | None:
        if function is None:
            return None

        def one(state: TrainState, features: Array) -> TrainState:
            return keep(state, function(state, features))

        return jax.vmap(one, (_AXES, 1), _AXES)

    mapped: Step | None = None if phase.step is None else step
    return phase._replace(
        step=mapped,
        begin=between(phase.begin, lambda _, after: after),
        refresh=between(phase.refresh, kept),
        finished=None
        if finished is None
        else lambda state: jnp.all(jax.vmap(finished, (_AXES,))(state)),
    )
