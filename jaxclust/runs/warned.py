"""What libraries warn of while a method runs."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heard() -> Iterator[list[str]]:
    """Users' warnings of a run as lines, each once, instead of as places in a library's source.

    scikit-learn's about clusters and convergence are of this kind; those for programmers are
    shown as before.
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
