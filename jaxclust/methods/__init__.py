"""The methods: one file a paper, each a Config and a `build` that returns a Method."""

from jaxclust._lazy import submodules

__getattr__, __dir__, __all__ = submodules(__name__, __path__)
