"""Algorithms that run on the host: scikit-learn's, openTSNE's."""

from jaxclust._lazy import submodules

__getattr__, __dir__, __all__ = submodules(__name__, __path__)
