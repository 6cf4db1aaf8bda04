"""The settings of a k-means of shards."""

from dataclasses import dataclass

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.data.features import check_features

# One level up to so many clusters, two beyond.
_FLAT = 2048


@dataclass(frozen=True)
class Settings:
    """What a k-means of shards depends on."""

    source: str
    """Pattern of the Parquet shards: wildcards or a range of numbers, paths or URLs."""
    n_clusters: int
    """Number of clusters."""
    levels: int | None = None
    """Levels of the tree, 1 to 3; None: 1 up to 2,048 clusters, 2 beyond."""
    seed: int = 0
    """Seed of the first centroids."""
    max_iterations: int = 100
    """Most of Lloyd's iterations at each level."""
    tol: float = 1e-4
    """A node is done once its centroids' summed squared shift is at most this share of the mean
    variance of its rows' columns."""
    refine: int = 0
    """Most of Lloyd's iterations over all clusters at once, after the last level."""
    centroids: str | None = None
    """An .npy file of float32 [k, d] to start from, with one level."""


def levels_of(settings: Settings) -> int:
    """The number of levels.

    Raises:
        InputError: settings that contradict each other or make no sense.
    """
    k, levels = settings.n_clusters, settings.levels
    if k < 1:
        raise InputError(f"‹n_clusters› must be at least 1, not {k}")
    if levels is None:
        levels = 1 if k <= _FLAT or settings.centroids is not None else 2
    if not 1 <= levels <= 3:
        raise InputError(f"‹levels› must be 1, 2 or 3, not {levels}")
    if settings.centroids is not None and levels > 1:
        raise InputError("‹centroids› are of one level; set ‹levels› 1")
    if min(settings.max_iterations, settings.refine, settings.tol) < 0:
        raise InputError("‹max_iterations›, ‹refine› and ‹tol› must not be negative")
    return levels


def read_centroids(path: str) -> np.ndarray:
    """Centroids to start from, float32 [k, d].

    Raises:
        InputError: no such file, or it holds something else.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except Exception as error:  # header, zip and pickle errors of every kind
        raise InputError(
            f"‹centroids› {path} cannot be read as an .npy file ({first_line(error)})"
        ) from error
    if not isinstance(found, np.ndarray):
        raise InputError(f"‹centroids› {path} holds several arrays; give an .npy file")
    return check_features(found, f"‹centroids› {path}")
