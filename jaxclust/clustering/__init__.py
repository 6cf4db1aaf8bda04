"""Cluster state and its pure updates; no networks."""

from jaxclust._lazy import submodules

__getattr__, __dir__, __all__ = submodules(__name__, __path__)
