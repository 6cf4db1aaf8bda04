"""A fitted method in a folder: settings as JSON, arrays as npz."""

import json
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.core.keys import host_arrays
from jaxclust.core.types import Compute, DataSpec, Method, Recipe
from jaxclust.images.normalisation import Normalisation, normalisation_of
from jaxclust.methods import registry
from jaxclust.training.fitted import Fitted
from jaxclust.training.placement import Data
from jaxclust.training.starting import template

_SETTINGS, _ARRAYS, _FORMAT = "fitted.json", "state.npz", 1


def save(fitted: Fitted, folder: Path | str) -> None:
    """Write a fitted method to a folder, for :func:`load`.

    Args:
        fitted: see :func:`training.fit`.
        folder: created if missing; an earlier save in it is replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = fitted.method.recipe
    content = {
        "format": _FORMAT,
        "recipe": None if recipe is None else described(recipe),
        "normalisation": fitted.normalisation.as_json(),
        "dtype": str(fitted.dtype),
        "shape": list(fitted.shape),
        "seconds": fitted.seconds,
        "images_per_second": fitted.images_per_second,
        "key": str(jax.random.key_impl(fitted.state.key)),
    }
    leaves = jax.tree.leaves(host_arrays(fitted.state))
    arrays = {f"{i:04d}": leaf for i, leaf in enumerate(leaves)}
    # The settings last: a folder with them is complete.
    (folder / _SETTINGS).unlink(missing_ok=True)
    with (folder / _ARRAYS).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    (folder / _SETTINGS).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def load(folder: Path | str, method: Method | None = None) -> Fitted:
    """Read what :func:`save` wrote.

    Args:
        folder: the one given to it.
        method: the method itself, if it was built with custom parts (a network), which no file
            holds.

    Raises:
        InputError: nothing was saved there, it is damaged, or it needs `method`.
    """
    folder = Path(folder)
    if not (folder / _SETTINGS).is_file():
        raise InputError(f"{folder} holds no saved method: there is no {_SETTINGS}")
    try:
        content = json.loads((folder / _SETTINGS).read_text("utf-8"))
        with np.load(folder / _ARRAYS, allow_pickle=False) as found:
            leaves = [found[name] for name in sorted(found.files)]
        normalisation = normalisation_of(*content["normalisation"].values())
        shape, dtype = tuple(content["shape"]), np.dtype(content["dtype"])
        given = content["recipe"]
    except Exception as error:  # zip, JSON and key errors of every kind
        raise InputError(
            f"the method saved in {folder} is damaged ({first_line(error)})"
        ) from error
    if method is None:
        if given is None:
            raise InputError(
                f"the method in {folder} was built with custom parts; build it the same way and "
                "pass it: load(folder, method)"
            )
        method = rebuilt(given)
    state = state_of(method, leaves, shape, dtype, normalisation, content["key"])
    times = (content["seconds"], content["images_per_second"])
    return Fitted(method, state, normalisation, dtype, shape, *times)


def described(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON types."""
    return {
        "family": recipe.family,
        "config": asdict(recipe.config),
        "spec": {**recipe.spec._asdict(), "shape": list(recipe.spec.shape)},
        "precision": recipe.compute.precision,
    }


def rebuilt(described: dict[str, Any]) -> Method:
    """The method of a :func:`described` recipe."""
    entry = registry.of_family(described["family"])
    config = filled(next(iter(entry.presets.values())), described["config"])
    spec = described["spec"]
    spec = DataSpec(spec["n_images"], tuple(spec["shape"]), spec["n_clusters"])
    return entry.build(config, spec, Compute(described["precision"]), **entry.parts(config))


def filled(config: Any, values: dict[str, Any]) -> Any:
    """A method's settings with the values from a JSON file."""
    known = {}
    for entry in fields(config):
        value, now = values.get(entry.name), getattr(config, entry.name)
        if entry.name not in values:
            continue
        if is_dataclass(now) and isinstance(value, dict):
            value = filled(now, value)
        known[entry.name] = tuple(value) if isinstance(value, list) else value
    return replace(config, **known)


def state_of(
    method: Method,
    leaves: list[np.ndarray],
    shape: tuple[int, ...],
    dtype: Any,
    normalisation: Normalisation,
    key_impl: str,
) -> Any:
    """A state from its leaves; typed keys from their data.

    Raises:
        InputError: they belong to another method.
    """
    shaped: Any = np.broadcast_to(np.zeros((), dtype), shape)
    expected = template(method, Data(shaped, normalisation), len(method.phases) - 1)
    wanted, structure = jax.tree.flatten(expected)

    def one(leaf: np.ndarray, like: Any) -> Any:
        if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.asarray(leaf), impl=key_impl)
        if leaf.shape != like.shape:
            raise InputError(f"the saved state has {leaf.shape} where {like.shape} is expected")
        return jnp.asarray(leaf)

    if len(leaves) != len(wanted):
        raise InputError("the saved state is from another method or version; fit it again")
    return jax.tree.unflatten(structure, [one(*pair) for pair in zip(leaves, wanted, strict=True)])
