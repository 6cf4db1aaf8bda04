"""Deep image clustering in JAX: CCNN and the baselines it is compared with."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxclust import clustering, data, losses, methods, metrics, models

__version__ = "0.1.0"
__all__ = ["clustering", "data", "losses", "methods", "metrics", "models"]


def __getattr__(name: str) -> Any:
    # On first use, so that `import jaxclust` costs nothing beyond Python itself.
    if name in __all__:
        return importlib.import_module(f"jaxclust.{name}")
    raise AttributeError(f"module 'jaxclust' has no attribute '{name}'")
