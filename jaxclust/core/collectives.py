"""What a step needs from the other devices, over the named mapped axis.

None means one device, with nothing exchanged; so the same step function runs under
jit, vmap, pmap and shard_map. Steps that gather a batch before their loss compute the
same loss on every device: the mean of their gradients is that of the whole batch.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

Tree = TypeVar("Tree")


def own_rows(n: int, axis_name: str | None) -> Array:
    """This device's share of n rows that every device knows -> int32 [n / devices].

    Raises:
        ValueError: the devices cannot share n rows evenly.
    """
    rows = jnp.arange(n, dtype=jnp.int32)
    if axis_name is None:
        return rows
    count = lax.axis_size(axis_name)
    if n % count:
        raise ValueError(f"{n} rows cannot be shared evenly by {count} devices")
    share = n // count
    return lax.dynamic_slice_in_dim(rows, lax.axis_index(axis_name) * share, share)


def positions(b: int, axis_name: str | None) -> Array:
    """The positions of this device's b rows in the whole batch -> int32 [b]."""
    places = jnp.arange(b, dtype=jnp.int32)
    return places if axis_name is None else places + lax.axis_index(axis_name) * b


def normal_rows(key: Array, like: Array, places: Array) -> Array:
    """Standard normal noise of the shape and dtype of like[b, ...], keyed row by row.

    So that splitting the batch over devices changes nothing; places int [b].
    """

    def one(place: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, place), like.shape[1:], like.dtype)

    return jax.vmap(one)(places)


def gathered(tree: Tree, axis_name: str | None) -> Tree:
    """Every device's rows, in the devices' order: leaves [b, ...] -> [devices * b, ...]."""
    return tree if axis_name is None else lax.all_gather(tree, axis_name, tiled=True)


def rows_of_all(x: Array, rows: Array, axis_name: str | None) -> Array:
    """Rows int [m] of the whole batch, of which x[b, ...] is this device's part -> [m, ...].

    The batch is not gathered: each device sends only those of the rows that it holds.
    """
    if axis_name is None:
        return x[rows]
    here = rows - lax.axis_index(axis_name) * x.shape[0]
    held = ((here >= 0) & (here < x.shape[0])).reshape(-1, *(1,) * (x.ndim - 1))
    mine = jnp.where(held, x[jnp.clip(here, 0, x.shape[0] - 1)], jnp.zeros((), x.dtype))
    return lax.psum(mine, axis_name)


def mean_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Each leaf's mean over the devices."""
    return tree if axis_name is None else jax.tree.map(lambda x: lax.pmean(x, axis_name), tree)
