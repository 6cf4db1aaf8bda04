"""Warnings from libraries while a method runs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heard() -> Iterator[list[str]]:
    """A run's user warnings as lines, each once, without their source locations.

    These include scikit-learn's about clusters and convergence; warnings for programmers are shown
    as before.
    """
    texts: list[str] = []
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, UserWarning | RuntimeWarning):
                return before(message, category, *where, **more)
            text = " ".join(str(message).split())
            if text not in texts:
                texts.append(text)
            return None

        warnings.showwarning = show
        yield texts
