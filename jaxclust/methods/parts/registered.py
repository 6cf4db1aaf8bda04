"""A registered method: what a name in the registry stands for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from jaxclust.core.errors import InputError, nearest_name
from jaxclust.core.types import Compute, DataSpec, Method


@dataclass(frozen=True)
class Registered:
    """A method, or an ablation of one: the same build with settings changed."""

    make: Callable[..., Method]  # a `build` that `parts.recipe.recorded` decorates
    presets: Mapping[str, Any]
    about: str
    estimator: str | None = None  # name of its class in `jaxclust`, if it has one
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self, preset: str = "best") -> Any:
        """A preset's settings; InputError for an unknown preset."""
        if preset not in self.presets:
            raise InputError(f"unknown ‹preset› '{preset}'; {nearest_name(preset, self.presets)}")
        return replace(self.presets[preset], **self.changes)

    def parts(self, config: Any) -> dict[str, Any]:
        """The files that the settings name, read: further arguments of `build`."""
        reader = getattr(self.make, "parts", None)
        return reader(config) if reader else {}

    def takes(self, *shape: int) -> bool:
        """Whether it clusters data of a shape: features (d,) or images (h, w, c)."""
        try:
            # Not by `build`, whose few kept methods are those in use.
            self.make(self.config(), DataSpec(1000, shape, 2), Compute())
        except InputError:
            return False
        return True

    def build(
        self,
        config: Any,
        spec: DataSpec,
        compute: Compute = Compute(),  # noqa: B008  (a NamedTuple, immutable)
        **parts: Any,
    ) -> Method:
        """The method; the same settings give the same object, with its compiled programs.

        Args:
            config: of the family's `Config`.
            spec: size and shape of the data, number of clusters.
            compute: precision, and the devices' axis.
            parts: see :meth:`parts`; with any, the method is built anew.
        """
        if parts:
            return self.make(config, spec, compute, **parts)
        return _built(self.make, config, spec, compute)


@lru_cache(maxsize=8)
def _built(make: Callable[..., Method], config: Any, spec: DataSpec, compute: Compute) -> Method:
    return make(config, spec, compute)


def entry(
    make: Callable[..., Method],
    presets: Mapping[str, Any],
    about: str,
    estimator: str | None = None,
    /,
    **changes: Any,
) -> Registered:
    """A line of :data:`METHODS`; `changes` override the presets' settings."""
    return Registered(make, presets, about, estimator, changes)
