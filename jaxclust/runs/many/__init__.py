"""k-means of features in shards that no machine holds at once: rows on disk, sums exchanged."""

from jaxclust._lazy import submodules

__getattr__, __dir__, __all__ = submodules(__name__, __path__)
