"""The map of a run: every image a point, and the images shown there."""

import base64
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxclust.clustering.host import reducers, samples
from jaxclust.core.errors import RunError
from jaxclust.core.rows import evenly_spread
from jaxclust.report.cluster_sections import Kinds
from jaxclust.report.colours import COLOURS
from jaxclust.report.text import shown
from jaxclust.report.thumbnails import Draw, Sheets, sheets
from jaxclust.runs.edits import mark
from jaxclust.runs.finished import FinishedRun

# Images on the map at most; larger sets are sampled evenly.
_POINTS = 60_000
# With more images, a t-SNE map takes minutes.
_TSNE = 3_000
# Principal components of the features that the page has, to split clusters by.
_COMPONENTS = 12
# Bytes of the page that the images may take, and their largest side.
_BYTES, _SIDE = 7_000_000, 48

MapOf = Literal["auto", "pca", "tsne", "umap"]


class Plane(NamedTuple):
    """Where the images are on the map; without points, why there is no map."""

    points: np.ndarray | None  # float [m, 2] in [0, 1]
    said: str  # what kind of map it is, or why there is none


_NAMES = {"tsne": "t-SNE", "umap": "UMAP", "pca": "principal components"}


def plane(run: FinishedRun, rows: np.ndarray, how: MapOf) -> Plane:
    """Points of the images on the map and what kind of map it is.

    Args:
        run: the finished run.
        rows: int [m], of the images on the map.
        how: auto: the run's own map, else t-SNE of its features for few images, else
            their principal components; or one of these by name.

    Returns:
        No points if all images have the same features, or the features are not finite.

    Raises:
        InputError: a library is missing, or there are too few images for it.
    """
    if how == "auto" and run.map is not None:
        own = np.asarray(run.map, np.float64)[rows]
        if np.isfinite(own).all() and not samples.all_alike(own):
            return Plane(_in_unit_square(own), "the run's own map")
    n = len(rows)
    features = np.asarray(run.features[rows], np.float32).reshape(n, -1)
    kind = how if how != "auto" else "tsne" if n <= _TSNE else "pca"
    # t-SNE needs a few neighbours to choose from.
    kind = "pca" if n < 4 else kind
    reducers.check_reducer(kind, n)
    try:
        samples.check_spread(features, "images' features")
        found = reducers.reduce(features, kind, seed=0).astype(np.float64)
    except RunError as error:
        return Plane(None, str(error))
    return Plane(_in_unit_square(found), f"{_NAMES[kind]} of the features")


def _in_unit_square(found: np.ndarray) -> np.ndarray:
    """Points float [m, 1 or 2] moved and scaled into [0, 1], proportions kept -> [m, 2]."""
    if found.shape[1] == 1:
        found = np.hstack([found, np.zeros_like(found)])
    low, extent = found.min(axis=0), np.ptp(found, axis=0).max()
    middle = (1 - np.ptp(found, axis=0) / max(extent, 1e-12)) / 2
    return (found - low) / max(extent, 1e-12) + middle


class MapOfImages(NamedTuple):
    """The map as the page shows it."""

    data: dict[str, Any] | None  # what its script reads; None without a map
    sheets: Sheets | None  # the images it shows
    said: str  # see :class:`Plane`
    shown: int  # images on it


def map_of(run: FinishedRun, draw: Draw | None, kinds: Kinds | None, how: MapOf) -> MapOfImages:
    """The map of a run; see :func:`plane` for its source and the errors raised."""
    rows = evenly_spread(len(run.ids), _POINTS)
    found, said = plane(run, rows, how)
    if found is None:
        return MapOfImages(None, None, said, 0)
    images = None if draw is None else sheets(draw, rows, _BYTES, _SIDE)
    certainty = np.nan_to_num(run.confidence[rows].astype(np.float64)) * 255
    data = {
        "xy": _encoded(np.clip(np.round(found * 65535), 0, 65535).astype("<u2")),
        "clusters": _encoded(run.clusters[rows].astype("<u2")),
        "confidence": _encoded(np.clip(np.round(certainty), 0, 255).astype(np.uint8)),
        "labels": None if kinds is None else _encoded(kinds.labels[rows].astype("<u2")),
        "ids": [shown(run.ids[int(i)]) for i in rows],
        "labelNames": kinds.names if kinds else [],
        "colours": COLOURS,
        "k": run.n_clusters,
        "n": len(run.ids),
        "names": [shown(name) for name in run.names],
        "run": mark(run.clusters),
        "features": _encoded(_compared(run.features[rows])),
        "outlier": None if run.outlier is None else _encoded(_ranks(run.outlier[rows])),
        "sheets": None if images is None else images._asdict(),
    }
    return MapOfImages(data, images, said, len(rows))


def _compared(features: np.ndarray) -> np.ndarray:
    """What the page splits clusters by: a few principal components, uint8 [m, d], to one scale."""
    flat = np.asarray(features, np.float32).reshape(len(features), -1)
    flat = np.nan_to_num(flat, posinf=0.0, neginf=0.0)
    count = min(_COMPONENTS, *flat.shape)
    found = reducers.reduce(flat, "pca", seed=0, dimensions=count) if count > 1 else flat
    found = found - found.min(axis=0, keepdims=True)
    return np.round(found * (255 / max(found.max(), 1e-12))).astype(np.uint8)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places in ascending order, uint16 [m]; enough to sort by."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype("<u2")


def _encoded(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
