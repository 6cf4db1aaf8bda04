"""Work on many rows, one block at a time, so that [n, k] never has to fit in memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

# Entries of a block: what a CPU's cache holds, what keeps an accelerator busy.
_BLOCK_ENTRIES = {"cpu": 2**20}
_BLOCK_ENTRIES_ELSEWHERE = 2**26


def block_rows(n: int, k: int) -> int:
    """Rows of a block of an [n, k] matrix, at most n."""
    entries = _BLOCK_ENTRIES.get(jax.default_backend(), _BLOCK_ENTRIES_ELSEWHERE)
    return min(n, max(256, entries // k))


def by_blocks(function: Callable[..., Any], rows: int, *arrays: Any) -> Any:
    """`function(*arrays)`, `rows` rows at a time; each row's result depends on that row alone."""
    n = jax.tree.leaves(arrays)[0].shape[0]
    if rows == n:
        return function(*arrays)

    def part(start: Array) -> Any:
        return function(
            *jax.tree.map(lambda whole: lax.dynamic_slice_in_dim(whole, start, rows), arrays)
        )

    def block(i: Array, out: Any) -> Any:
        # The last block overlaps the one before, so that all have one shape.
        start = jnp.minimum(i * rows, n - rows)
        return jax.tree.map(
            lambda whole, piece: lax.dynamic_update_slice_in_dim(whole, piece, start, 0),
            out,
            part(start),
        )

    shapes = jax.eval_shape(part, jnp.zeros((), jnp.int32))
    empty = jax.tree.map(lambda leaf: jnp.zeros((n, *leaf.shape[1:]), leaf.dtype), shapes)
    return lax.fori_loop(0, -(-n // rows), block, empty)
