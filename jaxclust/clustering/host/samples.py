"""What samples must satisfy before compiled code sees them.

t-SNE, UMAP and principal components divide by the samples' spread. Without any spread, NaN reaches
compiled loops that do not check for it: scikit-learn's t-SNE then ends the whole interpreter (a
segmentation fault in its tree of points), openTSNE returns NaN.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from jaxclust.core.errors import RunError

# Roundings of a value within which all samples count as alike: the same image, coded in two
# batches, may differ by this much.
_ROUNDINGS = 4
# Within these bounds single precision holds the spread, and samples are left as they are.
_LEAST_SHARE, _LEAST, _MOST = 1e-3, 1e-8, 1e8


def check_finite(x: np.ndarray, what: str) -> None:
    """Refuse samples x[n, d] with NaN or infinity; `what` names them in the message.

    Raises:
        RunError: some values are not finite.
    """
    wrong = int(np.sum(~np.isfinite(x).all(axis=1)))
    if wrong:
        raise RunError(
            f"{wrong:,} of {len(x):,} {what} hold values that are not finite; look for such "
            "values in the input, or train with a smaller learning rate"
        )


def all_alike(x: np.ndarray) -> bool:
    """Whether finite samples x[n, d] differ by no more than rounding; true of fewer than two."""
    if len(x) < 2 or not x.shape[1]:
        return True
    low, high = x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64)
    rounding = _ROUNDINGS * np.finfo(np.float32).eps * np.maximum(abs(low), abs(high))
    return bool(np.all(high - low <= rounding))


def check_spread(x: np.ndarray, what: str) -> None:
    """Refuse samples x[n, d] that are not finite or all alike; `what` names them.

    Raises:
        RunError: there is nothing to tell them apart by.
    """
    check_finite(x, what)
    if all_alike(x):
        raise RunError(
            f"all {len(x):,} {what} are alike, so nothing tells them apart; look for copies "
            "of one image or blank images in the input, or train longer or with another seed"
        )


def in_range(x: np.ndarray) -> np.ndarray:
    """Samples x[n, d] whose spread single precision can hold, float [n, d].

    Ordinary samples come back as they are. Those that are far from zero relative to their spread,
    vanishingly small or huge are centred and scaled to a mean square of one per sample, which
    changes no neighbourhood.

    Args:
        x: finite and not :func:`all_alike`.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    square = float(np.einsum("nd,nd->", x, x, dtype=np.float64)) / len(x)
    variance = square - float(mean @ mean)
    if variance > _LEAST_SHARE * square and _LEAST < square < _MOST:
        return x
    centred = x - mean
    centred /= abs(centred).max()
    return (centred / np.sqrt(np.mean(np.sum(centred**2, axis=1)))).astype(np.float32)


def widened(x: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Samples x[n, d] with columns of faint noise added where d < width: [n, max(d, width)].

    A map starts as the samples' principal components, and there are no more of those than columns.
    """
    missing = width - x.shape[1]
    if missing <= 0:
        return x
    noise = np.random.default_rng(seed).normal(size=(len(x), missing))
    return np.hstack([x, 1e-3 * x.std() * noise]).astype(x.dtype)


@contextmanager
def fewer_threads(n: int, many: int) -> Iterator[int]:
    """How many threads to use for n samples: one below `many`, else one per core.

    On a busy machine, threads that wait for each other at every step of a small problem take
    minutes where one thread takes a tenth of a second. Within the block, libraries' own thread
    pools (OpenMP, BLAS) are limited to one thread, too; for many samples they are left as the user
    set them.
    """
    from threadpoolctl import threadpool_limits

    threads = 1 if n < many else os.cpu_count() or 1
    with threadpool_limits(1 if n < many else None):
        yield threads


@contextmanager
def quiet() -> Iterator[None]:
    """Silence scikit-learn warnings that a user can do nothing about.

    Bounds on iterations are settings; duplicates leave clusters empty, which the run reports
    itself; a graph in several parts is what clustering looks for.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        for said in (
            "Graph is not fully connected",
            # Said of as many samples as columns.
            "The spectral clustering API has changed",
            # UMAP then starts from a random initialisation.
            "Spectral initialisation failed",
            # Of the kind of division that `check_spread` keeps from doing harm.
            "invalid value encountered in",
        ):
            warnings.filterwarnings("ignore", said)
        yield
