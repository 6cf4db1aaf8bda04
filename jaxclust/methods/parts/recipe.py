"""What a method was built from, so that a saved one can be built again."""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from jaxclust.core.types import Compute, DataSpec, Method, Recipe

Build = Callable[..., Method]


def recorded(
    family: str, read: Callable[[Any], dict[str, Any]] | None = None, names: Collection[str] = ()
) -> Callable[[Build], Build]:
    """A `build(config, spec, compute, …)` whose methods know their :class:`types.Recipe`.

    Methods built with further arguments, such as a custom network, which no file holds, have none.
    The number of starts is set here too, from the settings.

    Args:
        family: finds `build` again, by methods.registry.family.
        read: (config) -> arguments of `build` that lie in files the settings name.
        names: of those arguments.
    """

    def decorate(build: Build) -> Build:
        @wraps(build)
        def built(
            config: Any,
            spec: DataSpec,
            compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
            **given: Any,
        ) -> Method:
            method = build(config, spec, compute, **given)
            own = any(part is not None for name, part in given.items() if name not in names)
            recipe = None if own else Recipe(family, config, spec, compute)
            return method.replace(recipe=recipe, starts=getattr(config, "starts", 1))

        built.family, built.parts = family, read  # pyright: ignore[reportAttributeAccessIssue]
        return built

    return decorate
