"""Sub-modules as attributes of their package, imported when first asked for."""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any


def submodules(package: str, path: Iterable[str]) -> tuple[Callable, Callable, list[str]]:
    """`__getattr__`, `__dir__` and the public names for a package's own namespace.

    Args:
        package: its `__name__`.
        path: its `__path__`.
    """
    names = [m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_")]

    def get(name: str) -> Any:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return get, lambda: sorted(names), names
