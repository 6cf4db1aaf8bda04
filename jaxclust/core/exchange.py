"""What processes tell each other: sums, rows and words. Every process must make the same calls.

NumPy arrays in, NumPy arrays out; a process that is alone gets back what it gave.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxclust.core import device
from jaxclust.core.errors import InputError, first_line


def summed(values: np.ndarray) -> np.ndarray:
    """The processes' arrays, of one shape, added up on all of them: float32, or exact int64.

    No process holds more than its own array and the sum.
    """
    if values.dtype.kind == "f":
        return _added(np.ascontiguousarray(values, np.float32))
    # In limbs of 20 bits: exchanges have no 64-bit integers.
    whole = values.astype(np.int64)
    limbs = np.stack([whole & _LIMB, (whole >> 20) & _LIMB, whole >> 40]).astype(np.int32)
    low, middle, high = _added(limbs).astype(np.int64)
    return low + (middle << 20) + (high << 40)


_LIMB = 2**20 - 1


def _added(values: np.ndarray) -> np.ndarray:
    """The sum over processes of float32 or int32 arrays."""
    if jax.process_count() == 1:
        return values
    add, spread = _adder()
    mine = jax.device_put(values[None], jax.local_devices()[0])
    shape = (jax.process_count(), *values.shape)
    whole = jax.make_array_from_single_device_arrays(shape, spread, [mine])
    return np.asarray(add(whole).addressable_data(0))


@cache
def _adder() -> tuple[Callable, NamedSharding]:
    """(the program that adds, how its argument lies on the processes)."""
    first = [jax.local_devices(process_index=p)[0] for p in range(jax.process_count())]
    mesh = Mesh(np.asarray(first), ("processes",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    add = device.jit(lambda x: jnp.sum(x, axis=0), out_shardings=everywhere)
    return add, NamedSharding(mesh, PartitionSpec("processes"))


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


def told(work: Callable[[], str]) -> str:
    """What the first process finds out, on all of them; they wait for it, and share its refusal.

    Raises:
        InputError: the first process's, or what its OSError says.
    """
    found, refusal = "", ""
    if jax.process_index() == 0:
        try:
            found = work()
        except InputError as error:
            refusal = error.marked
        except OSError as error:
            refusal = f"{error.filename or 'a file'}: {error.strerror or first_line(error)}"
    found, refusal = texts_of_all(found)[0], texts_of_all(refusal)[0]
    if refusal:
        raise InputError(refusal)
    return found


def agreed(work: Callable[[], object]) -> None:
    """Let the first process do something; see :func:`told`."""

    def done() -> str:
        work()
        return ""

    told(done)
