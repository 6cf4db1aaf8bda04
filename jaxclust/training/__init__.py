"""A method and data in, a fitted state out."""

from typing import TYPE_CHECKING, Any

from jaxclust import _lazy

if TYPE_CHECKING:
    from jaxclust.training.fitted import Fitted, predict
    from jaxclust.training.saving import load, save
    from jaxclust.training.starts import fit

_NAMES = {
    "fit": "starts",
    "predict": "fitted",
    "Fitted": "fitted",
    "save": "saving",
    "load": "saving",
}
_module, __dir__, _modules = _lazy.submodules(__name__, __path__)
__all__ = ["Fitted", "fit", "load", "predict", "save"]


def __getattr__(name: str) -> Any:
    return getattr(_module(_NAMES[name]), name) if name in _NAMES else _module(name)
