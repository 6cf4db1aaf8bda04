"""Pure JAX on pixels: random views, normalisation, descriptors."""

from jaxclust._lazy import submodules

__getattr__, __dir__, __all__ = submodules(__name__, __path__)
