"""Random keys: every draw of a run is keyed by the run, the step and its purpose."""

from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.core.types import TrainState


def run_key(seed: int) -> Array:
    """The typed key of a run; the only thing made from its seed on the device."""
    return jax.random.key(seed)


def of(state: TrainState, purpose: str, at: Any = None) -> Array:
    """The key for draws with one purpose at a state's step.

    No two purposes share a key, nor do two steps of one purpose. This is the only place
    where a running method's keys come from.

    Args:
        state: its key and step are used.
        purpose: a name such as "views" or "seeding"; each draw of a step has its own.
        at: int [] to use instead of the step, if draws are counted by something else.
    """
    purposeful = jax.random.fold_in(state.key, np.uint32(crc32(purpose.encode())))
    return jax.random.fold_in(purposeful, state.step if at is None else at)


def of_row(key: Array, place: Array) -> Array:
    """The key of one image's draw, by its place in the whole batch, int []."""
    return jax.random.fold_in(key, place)


def host_seed(state: TrainState, purpose: str) -> int:
    """A seed in [0, 2**31) for random generators that are not JAX's.

    Args:
        state: its key and step are used, on the host.
        purpose: see :func:`of`.
    """
    words = np.asarray(jax.random.key_data(of(state, purpose))).ravel().tolist()
    return int(np.random.SeedSequence(words).generate_state(1)[0]) % 2**31


def run_seed(state: TrainState) -> int:
    """The run's own seed in [0, 2**32), for a method that draws only once, on the host."""
    words = np.asarray(jax.random.key_data(state.key)).ravel().tolist()
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def pair(key: Array) -> tuple[Array, Array]:
    """(the network's, the run's) keys, from the key that `Method.init` is given."""
    network_key, own_key = jax.random.split(key)
    return network_key, own_key


def is_key(leaf: Any) -> bool:
    """Whether a leaf, or the shape of one, is of typed keys."""
    dtype = getattr(leaf, "dtype", None)  # a Python number has none
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def host_arrays(tree: Any) -> Any:
    """A pytree's leaves as NumPy arrays, typed keys as their data."""
    return jax.tree.map(
        lambda leaf: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf), tree
    )


def typed(tree: Any, like: Any, impl: str | None = None) -> Any:
    """What :func:`host_arrays` made, with its keys typed again.

    Args:
        tree: of arrays.
        like: a tree of the same structure, of arrays or shapes; tells which leaves are keys.
        impl: the generator's name; None: as `like` has it.
    """

    def one(leaf: Any, as_: Any) -> Any:
        if not is_key(as_):
            return leaf
        return jax.random.wrap_key_data(jnp.asarray(leaf), impl=impl or generator(as_))

    return jax.tree.map(one, tree, like)


def data_shape(leaf: Any) -> tuple[tuple[int, ...], Any]:
    """(shape, dtype) of what :func:`host_arrays` makes of a leaf, or of the shape of one."""
    if not is_key(leaf):
        return leaf.shape, leaf.dtype
    shaped = jax.eval_shape(jax.random.key_data, leaf)
    return shaped.shape, shaped.dtype


def generator(key: Any) -> Any:
    """The generator of a typed key, or of the shape of one; its `str` is its name."""
    told = []
    # Inside a trace, a shape is a key that JAX accepts; outside, JAX refuses it.
    jax.eval_shape(lambda traced: told.append(jax.random.key_impl(traced)), key)
    return told[0]
