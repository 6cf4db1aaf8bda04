"""What a checkpoint holds of a state: plain arrays by name, and what wrote them."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from jaxclust.core.errors import InputError
from jaxclust.core.keys import generator, is_key
from jaxclust.core.types import TrainState

# Version of the names and meaning of leaves; to be raised if an old checkpoint would fit a new
# state but mean something else.
_FORMAT = 1


def _named(state: TrainState) -> dict[str, Any]:
    """The leaves under flat, ordered names: independent of the classes around them."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {f"{i:04d}{jax.tree_util.keystr(path)}": leaf for i, (path, leaf) in enumerate(leaves)}


def leaves_of(state: TrainState) -> dict[str, Any]:
    """A state's arrays by name; for typed keys their data, uint32."""
    return {
        name: jax.random.key_data(leaf) if is_key(leaf) else leaf
        for name, leaf in _named(state).items()
    }


def shapes_of(state: TrainState) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of :func:`leaves_of`, of a state or of the shapes of one."""
    return jax.eval_shape(leaves_of, state)


def written_by(state: TrainState) -> dict[str, Any]:
    """What a checkpoint says about its writer: format, version, and generators of random keys."""
    try:
        package: str | None = version("jaxclust")
    except PackageNotFoundError:
        package = None
    return {"format": _FORMAT, "jaxclust": package, "keys": _generators(state)}


def _generators(state: TrainState) -> dict[str, str]:
    """Which generator each key is for; raw keys, which do not say, under one name."""
    named = _named(state).items()
    found = {name: str(generator(leaf)) for name, leaf in named if is_key(leaf)}
    return found or {"raw": str(jax.config.jax_default_prng_impl)}


def check_same(
    found: dict[str, Any], writer: dict[str, Any], expected: TrainState, path: Path
) -> None:
    """Refuse a checkpoint that does not fit this state, saying what differs.

    Args:
        found: something with shape and dtype for each of its leaves, by name.
        writer: see :func:`written_by`; empty for early versions.
        expected: shapes and dtypes of the state.
        path: where it is.

    Raises:
        InputError: names the first leaf that differs and why, as far as is known.
    """
    keys, mine = writer.get("keys", {}), _generators(expected)
    for name in keys.keys() & mine.keys():
        if keys[name] != mine[name]:
            raise InputError(
                f"the checkpoint {path} draws with {keys[name]}, but this process with "
                f"{mine[name]}; set JAX_DEFAULT_PRNG_IMPL={keys[name]}, as it was"
            )
    wanted = shapes_of(expected)
    if found.keys() != wanted.keys() or writer.get("format", _FORMAT) != _FORMAT:
        raise InputError(_other_tree(found, writer, wanted, path))
    for name, leaf in wanted.items():
        there = found[name]
        if tuple(there.shape) != leaf.shape or there.dtype != leaf.dtype:
            raise InputError(
                f"the checkpoint {path} does not fit: {_plain(name)} is {_described(there)} "
                f"there and {_described(leaf)} here; {_cure(name, there, leaf)}"
            )


def _other_tree(
    found: dict[str, Any], writer: dict[str, Any], wanted: dict[str, Any], path: Path
) -> str:
    """What to say about a checkpoint with other leaves."""
    there, here = ({_plain(name) for name in names} for names in (found, wanted))
    apart = sorted(there - here), sorted(here - there)
    told = [
        f"{len(names)} only {where}, as {names[0]}"
        for names, where in zip(apart, ("there", "here"), strict=True)
        if names
    ]
    package = writer.get("jaxclust")
    by = f"jaxclust {package}" if package else "an earlier version of jaxclust"
    return (
        f"the checkpoint {path} holds another state ({'; '.join(told) or 'in another order'}): it "
        f"was written by {by} or by another run; continue with the version and settings that wrote "
        "it, or start over with another ‹out›"
    )


def _cure(name: str, there: Any, here: jax.ShapeDtypeStruct) -> str:
    """What to do about a leaf of another shape or dtype."""
    if _plain(name) == ".key" and tuple(there.shape) != here.shape:
        return "random keys of another generator: set JAX_DEFAULT_PRNG_IMPL as it was"
    sizes = there.dtype.itemsize, here.dtype.itemsize
    if tuple(there.shape) == here.shape and there.dtype.kind == here.dtype.kind:
        if sizes[0] < sizes[1]:
            return "leave JAX_ENABLE_X64 unset, as it was"
        if sizes[0] > sizes[1]:
            return "set JAX_ENABLE_X64=1, as it was"
    return "it is from another run; give the settings it was written with, or another ‹out›"


def _plain(name: str) -> str:
    """A leaf's name without its number."""
    return name[4:]


def _described(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def state_of(leaves: dict[str, Any], expected: TrainState) -> TrainState:
    """The state from a checkpoint's arrays, with typed keys where they are expected."""
    values = [
        jax.random.wrap_key_data(leaves[name], impl=generator(leaf))
        if is_key(leaf)
        else leaves[name]
        for name, leaf in _named(expected).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(expected), values)
