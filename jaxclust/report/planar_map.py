"""The map of a run: every image a point, and the pictures shown there."""

import base64
from typing import Any, Literal

import numpy as np

from jaxclust.clustering.host import reducers
from jaxclust.core.rows import evenly_spread
from jaxclust.report.cluster_sections import Kinds
from jaxclust.report.text import shown
from jaxclust.report.thumbnails import Draw, Sheets, sheets
from jaxclust.runs.finished import FinishedRun

# Images on the map; of larger sets so many, spread evenly.
_POINTS = 60_000
# Beyond so many a t-SNE map takes minutes.
_TSNE = 3_000
# Bytes of the page that the pictures may take, and their largest side.
_BYTES, _SIDE = 7_000_000, 48

MapOf = Literal["auto", "pca", "tsne", "umap"]


def plane(run: FinishedRun, rows: np.ndarray, how: MapOf) -> tuple[np.ndarray, str]:
    """Points float [m, 2] in [0, 1] and what kind of map it is.

    Args:
        run: the finished run.
        rows: int [m], of the images on the map.
        how: auto: the run's own map, else t-SNE of its features for few images, else
            their principal components; or one of these by name.

    Raises:
        InputError: a library is missing.
    """
    n = len(rows)
    own = run.map is not None and how == "auto"
    if own:
        found, name = np.asarray(run.map, np.float64)[rows], "the run's own map"
    else:
        features = np.asarray(run.features[rows], np.float32).reshape(n, -1)
        kind = how if how != "auto" else "tsne" if n <= _TSNE else "pca"
        # t-SNE needs a few neighbours to choose from.
        kind = "pca" if n < 4 else kind
        reducers.check_reducer(kind, n)
        if features.std() == 0:
            found = np.zeros((n, 2))
        else:
            found = reducers.reduce(features, kind, seed=0).astype(np.float64)
        name = {"tsne": "t-SNE", "umap": "UMAP", "pca": "principal components"}[kind]
        name = f"{name} of the features"
    if found.shape[1] == 1:
        found = np.hstack([found, np.zeros_like(found)])
    low, extent = found.min(axis=0), np.ptp(found, axis=0).max()
    middle = (1 - np.ptp(found, axis=0) / max(extent, 1e-12)) / 2
    return (found - low) / max(extent, 1e-12) + middle, name


def points(
    run: FinishedRun, draw: Draw | None, kinds: Kinds | None, how: MapOf
) -> tuple[dict[str, Any], Sheets | None, str]:
    """What the map's script reads, the pictures it shows, and the map's name."""
    n = len(run.ids)
    rows = evenly_spread(n, _POINTS)
    found, name = plane(run, rows, how)
    whole = np.clip(np.round(found * 65535), 0, 65535).astype("<u2")
    clusters = run.clusters[rows].astype("<u2")
    certainty = np.clip(np.round(run.confidence[rows] * 255), 0, 255).astype(np.uint8)
    data = {
        "xy": _encoded(whole),
        "clusters": _encoded(clusters),
        "confidence": _encoded(certainty),
        "labels": None if kinds is None else _encoded(kinds.labels[rows].astype("<u2")),
        "ids": [shown(run.ids[int(i)]) for i in rows],
    }
    pictures = None if draw is None else sheets(draw, rows, _BYTES, _SIDE)
    return data, pictures, name


def _encoded(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
