"""What processes tell each other: sums, rows and words. Every process must make the same calls.

NumPy arrays in, NumPy arrays out; a process that is alone gets back what it gave.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxclust.core.errors import InputError


def summed(values: np.ndarray) -> np.ndarray:
    """The processes' arrays, of one shape, added up on all of them.

    Added in float32 or int32; no process holds more than its own array and the sum.
    """
    values = np.ascontiguousarray(values, _narrow(values.dtype))
    if jax.process_count() == 1:
        return values
    first = [jax.local_devices(process_index=p)[0] for p in range(jax.process_count())]
    mesh = Mesh(np.asarray(first), ("processes",))
    spread = NamedSharding(mesh, PartitionSpec("processes"))
    shape = (jax.process_count(), *values.shape)
    mine = jax.device_put(values[None], jax.local_devices()[0])
    whole = jax.make_array_from_single_device_arrays(shape, spread, [mine])
    add = jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=NamedSharding(mesh, PartitionSpec()))
    return np.asarray(add(whole).addressable_data(0))


def _narrow(dtype: np.dtype) -> type:
    return np.float32 if dtype.kind == "f" else np.int32


def of_all(values: np.ndarray) -> np.ndarray:
    """Every process's array, of one shape, in the processes' order: [...] -> [processes, ...]."""
    if jax.process_count() == 1:
        return values[None]
    return np.asarray(multihost_utils.process_allgather(values))


def rows_of_all(rows: np.ndarray) -> np.ndarray:
    """Every process's rows [m, ...], of which each may have another number, one after the other."""
    if jax.process_count() == 1:
        return rows
    counts = of_all(np.asarray(len(rows), np.int32))
    padded = np.zeros((int(counts.max()), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return np.concatenate([own[:n] for own, n in zip(of_all(padded), counts, strict=True)])


def texts_of_all(text: str) -> list[str]:
    """Every process's text, in the processes' order."""
    if jax.process_count() == 1:
        return [text]
    content = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
    counts = of_all(np.asarray(len(content), np.int32))
    padded = np.zeros(max(1, int(counts.max())), np.uint8)
    padded[: len(content)] = content
    return [
        own[:n].tobytes().decode("utf-8", "surrogateescape")
        for own, n in zip(of_all(padded), counts, strict=True)
    ]


def from_first(values: np.ndarray) -> np.ndarray:
    """The first process's array, on all of them; the others give one of its shape and dtype."""
    if jax.process_count() == 1:
        return values
    return np.asarray(multihost_utils.broadcast_one_to_all(values))


def agreed(work: Callable[[], None]) -> None:
    """Let the first process do something; the others wait for it, and share its refusal.

    Raises:
        InputError: the first process's.
    """
    said = ""
    if jax.process_index() == 0:
        try:
            work()
        except InputError as error:
            said = error.marked
    if said := texts_of_all(said)[0]:
        raise InputError(said)
