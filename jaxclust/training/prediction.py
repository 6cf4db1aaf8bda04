"""What a method predicts for a data set, in blocks of fixed size."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.core.types import Method, Prediction, TrainState
from jaxclust.training.placement import Data
from jaxclust.training.programs import once, prediction_of

BLOCK = 500

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
        """What the method predicts for the images with a state.

        Args:
            state: of the method.
            fields: what is wanted; the others are None.
            rows: of the data, int [m]; None: all.
            room: provides the arrays for the results, which are then returned.
        """
        ...


def predictor(method: Method, data: Data) -> Predictor:
    """A function that predicts `data`, or some of it.

    Args:
        method: see :class:`core.types.Method`; it keeps the compiled program.
        data: see :func:`placement.put`.
    """
    n, group = data.images.shape[0], data.group
    devices = 1 if group is None else group.size
    block = -(-min(BLOCK, n) // devices) * devices
    program = prediction_of(method, data)

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
            # The last block is padded with rows that are cut off again.
            filled = chosen[np.minimum(np.arange(start, start + block), count - 1)]
            part = jax.device_get(program(state, *_given(data, filled))._replace(**left_out))
            if whole is None:
                whole = _room_for(part, count, room)
            for kept, leaf in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
                kept[start : start + block] = leaf[: count - start]
        return whole

    return predict


def of_images(method: Method) -> Method:
    """The method, predicting the normalised images, flat [b, values], as its features."""

    def predict(state: TrainState, images: Array) -> Prediction:
        del state
        nothing = jnp.zeros(images.shape[0], jnp.int32)
        return Prediction(nothing, nothing[:, None], images.reshape(len(images), -1), {})

    made: Any = once(method, ("images",), lambda: method.replace(predict=predict))  # pyright: ignore[reportArgumentType]
    return made


def _room_for(part: Prediction, count: int, room: Room) -> Any:
    """Room for `count` images, given the prediction for part of them."""
    return jax.tree.map_with_path(
        lambda path, leaf: room(path[0].name, (count, *leaf.shape[1:]), leaf.dtype), part
    )


def _given(data: Data, rows: np.ndarray) -> tuple[Any, np.ndarray]:
    """Images and the rows of them to predict."""
    group = data.group
    if not data.streamed:
        return data.images, rows if group is None else group.shares(rows)
    if group is None:
        return data.upload(np.asarray(data.images[rows])), np.arange(len(rows), dtype=np.int32)
    # With several processes, each reads its own devices' images.
    mine = group.shares(rows)
    images = data.images[mine.ravel()]
    parts = group.spread(images.reshape(*mine.shape, *images.shape[1:]))
    return parts, group.copies(np.arange(mine.shape[1], dtype=np.int32))
