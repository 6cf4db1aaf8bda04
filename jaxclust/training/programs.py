"""What is compiled: a chunk of steps, and the prediction of a block of images."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.core import collectives, device
from jaxclust.core.types import Batch, Method, Phase, Prediction, StepInfo, TrainState
from jaxclust.images.normalisation import Normalisation, normalise
from jaxclust.training.feed import Data
from jaxclust.training.parallel import AXIS, Group

_PREDICT_BLOCK = 500
# Room for this many steps' reports in a chunk.
CAPACITY = 512


def prediction_program(
    method: Method,
    normalisation: Normalisation,
    group: Group | None = None,
    *,
    sharded: bool = False,
) -> Callable[[TrainState, Any, np.ndarray], Prediction]:
    """The compiled prediction of rows int32 [b] of stored images [n, h, w, c].

    With a group, the rows are `group.shares` of them, and if `sharded` each device has images
    of its own.
    """

    def one(state: TrainState, images: Array, rows: Array) -> Prediction:
        prediction = method.predict(state, normalise(images[rows], normalisation))
        return prediction if group is None else collectives.gathered(prediction, AXIS)

    return device.jit(one) if group is None else group.pmap(one, (None, 0 if sharded else None, 0))


# (field of Prediction, shape, dtype) -> what takes the array's rows, slice by slice
Room = Callable[[str, tuple[int, ...], np.dtype], Any]


def held(_: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Room in memory."""
    return np.empty(shape, dtype)


class Predictor(Protocol):
    """Predicts `data` in blocks of fixed size; NumPy arrays in the data's order."""

    def __call__(
        self,
        state: TrainState,
        *,
        fields: Collection[str] = Prediction._fields,
        rows: np.ndarray | None = None,
        room: Room = held,
    ) -> Prediction:
        """What the method says of the images under a state.

        Args:
            state: of the method.
            fields: what is wanted; the others are None.
            rows: of the data, int [m]; None: all.
            room: where the results' arrays are put; what it gives is what is returned.
        """
        ...


def predictor(
    method: Method, data: Data, program: Callable[..., Prediction] | None = None
) -> Predictor:
    """A function that predicts `data`, or some of it.

    Args:
        method: see :class:`jaxclust.core.types.Method`.
        data: see :func:`put`.
        program: :func:`prediction_program` of both, where one is compiled already.
    """
    n, group = data.images.shape[0], data.group
    devices = 1 if group is None else group.size
    block = -(-min(_PREDICT_BLOCK, n) // devices) * devices
    if program is None:
        program = prediction_program(method, data.normalisation, group, sharded=data.streamed)

    def wanted(rows: np.ndarray) -> tuple[Any, np.ndarray]:
        """Images and the rows of them to predict."""
        if not data.streamed:
            return data.images, rows if group is None else group.shares(rows)
        if group is None:
            return data.upload(data.images[rows]), np.arange(len(rows), dtype=np.int32)
        # Of several processes each reads its own devices' images.
        mine = group.shares(rows)
        images = data.images[mine.ravel()]
        parts = group.spread(images.reshape(*mine.shape, *images.shape[1:]))
        return parts, group.copies(np.arange(mine.shape[1], dtype=np.int32))

    def predict(
        state: TrainState,
        *,
        fields: Collection[str] = Prediction._fields,
        rows: np.ndarray | None = None,
        room: Room = held,
    ) -> Prediction:
        chosen = np.arange(n, dtype=np.int32) if rows is None else rows.astype(np.int32)
        count = len(chosen)
        left_out = dict.fromkeys(set(Prediction._fields) - set(fields))
        whole: Any = None
        for start in range(0, count, block):
            # The last block is filled up with rows that are cut off again.
            filled = chosen[np.minimum(np.arange(start, start + block), count - 1)]
            part = jax.device_get(program(state, *wanted(filled))._replace(**left_out))
            if whole is None:
                whole = jax.tree.map_with_path(
                    lambda path, leaf: room(path[0].name, (count, *leaf.shape[1:]), leaf.dtype),
                    part,
                )
            for kept, leaf in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
                kept[start : start + block] = leaf[: count - start]
        return whole

    return predict


def chunk_program(
    phase: Phase,
    normalisation: Normalisation,
    group: Group | None = None,
    *,
    sharded: bool = False,
) -> Callable[..., Any]:
    """The compiled loop over rows[start:stop]; traced once for all chunks of a phase.

    (state, images, rows [batches, b], places [batches, b], start, stop) -> (state, StepInfo
    with a leading axis of which the first stop - start entries are filled, whether every
    number of the state is finite). Rows are the data set's, places where those stand in
    `images`. With a group, both are `group.shares` of them, or `group.copies` where the
    phase wants whole batches; if `sharded`, each device has images of its own.
    """
    if phase.step is None:
        raise ValueError(f"phase '{phase.name}' has no step")
    # jit, so that finding the report's shape and the loop share one trace.
    step = jax.jit(phase.step)

    def run(
        state: TrainState, images: Array, rows: Array, places: Array, start: Array, stop: Array
    ) -> tuple[TrainState, StepInfo, Array]:
        capacity = min(rows.shape[0] * phase.repeats, CAPACITY)

        def batch(i: Array) -> Batch:
            at = i // phase.repeats
            return Batch(normalise(images[places[at]], normalisation), rows[at])

        def body(i: Array, carry: tuple[TrainState, StepInfo]) -> tuple[TrainState, StepInfo]:
            state, reports = carry
            state, report = step(state, batch(i))
            write = jax.tree.map(lambda all_, one: all_.at[i - start].set(one), reports, report)
            return state, write

        _, report = jax.eval_shape(lambda s: step(s, batch(jnp.zeros((), jnp.int32))), state)
        empty = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), report)
        state, reports = jax.lax.fori_loop(start, stop, body, (state, empty))
        finite = [
            jnp.all(jnp.isfinite(leaf))
            for leaf in jax.tree.leaves(state)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
        ]
        return state, reports, jnp.all(jnp.stack(finite))

    if group is None:
        return device.jit(run, donate_argnums=0)
    return group.pmap(run, (None, 0 if sharded else None, 0, 0, None, None), donate=(0,))
