"""Deep image clustering in JAX: CCNN, DAC, ICS, DERC and what they are compared with."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxclust import clustering, data, losses, methods, metrics, models
    from jaxclust.estimators import CCNN, DAC, DEC, DERC, ICS, IDEC

__version__ = "0.1.0"
_ESTIMATORS = ("CCNN", "DAC", "DEC", "DERC", "ICS", "IDEC")
_MODULES = ("clustering", "data", "losses", "methods", "metrics", "models")
__all__ = [
    "CCNN",
    "DAC",
    "DEC",
    "DERC",
    "ICS",
    "IDEC",
    "clustering",
    "data",
    "losses",
    "methods",
    "metrics",
    "models",
]


def __getattr__(name: str) -> Any:
    # On first use, so that `import jaxclust` costs nothing beyond Python itself.
    if name in _ESTIMATORS:
        return getattr(importlib.import_module("jaxclust.estimators"), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxclust.{name}")
    raise AttributeError(f"module 'jaxclust' has no attribute '{name}'")
