"""The clusters of a run in words and images, and against labels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxclust import metrics
from jaxclust.data.catalogue import ImageSet
from jaxclust.report.text import shown
from jaxclust.report.thumbnails import Draw, Sheets, chosen, largest_side, place, sheets
from jaxclust.runs.finished import FinishedRun

# Bytes of the page that their images may take, and the largest side.
_BYTES, _SIDE = 4_500_000, 96
# Images listed for a cluster, at each end, and for all clusters together.
_LISTED, _LISTED_OF_ALL = 12, 2_400
# A confusion matrix with more cells than this is not readable.
_CELLS = 2_500
# Groups of near-duplicates listed, images of each, and outliers.
_GROUPS, _OF_GROUP, _OUTLIERS = 24, 8, 24
# Images whose features are processed together.
_BLOCK = 65_536


class Kinds(NamedTuple):
    """The classes that occur: labels numbered from 0 on, and the names of the numbers."""

    labels: np.ndarray  # int [n]
    names: list[str]
    classes: int  # numbers from here on mean an unknown label


def kinds_of(run: FinishedRun, class_names: Sequence[str]) -> Kinds | None:
    """The classes that occur in a run; None for a run without labels."""
    if run.labels is None:
        return None
    known = run.labels >= 0
    values, numbered = np.unique(run.labels[known], return_inverse=True)
    labels = np.full(len(known), len(values))
    labels[known] = numbered
    named = [str(class_names[v]) if v < len(class_names) else str(v) for v in values]
    rest = [] if known.all() else ["not known"]
    return Kinds(labels, [shown(name) for name in [*named, *rest]], len(values))


class Shown(NamedTuple):
    """An image in a cluster's sheet."""

    name: str
    row: int
    certainty: str
    sheet: int  # number of the sheet it is on
    style: str  # where on it; empty without images


class Cluster(NamedTuple):
    """A cluster's section."""

    number: int
    name: str  # given by hand; empty: none
    size: int
    share: str
    confidence: str
    nearest: int | None  # the other cluster with the nearest centre
    purity: str | None
    label: str | None  # most frequent
    most: list[Shown]
    least: list[Shown]


def _listed(run: FinishedRun) -> list[list[int]]:
    """The rows shown for every cluster: the most certain first, the least certain last."""
    each = max(1, min(_LISTED, _LISTED_OF_ALL // (2 * run.n_clusters)))
    listed = []
    for cluster in range(run.n_clusters):
        rows = np.flatnonzero(run.clusters == cluster)
        order = rows[np.argsort(-run.confidence[rows], kind="stable")]
        listed.append(chosen(order.tolist(), each))
    return listed


def _centres(run: FinishedRun) -> np.ndarray:
    """Mean features [k, d] of the clusters; NaN for empty ones."""
    features = run.features.reshape(len(run.ids), -1)
    sums = np.zeros((run.n_clusters, features.shape[1]))
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        np.add.at(sums, run.clusters[block], features[block])
    sizes = np.bincount(run.clusters, minlength=run.n_clusters)[:, None]
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def _nearest(centres: np.ndarray) -> list[int | None]:
    found: list[int | None] = []
    for i, centre in enumerate(centres):
        distances = np.linalg.norm(centres - centre, axis=1)
        distances[i] = np.nan
        known = not np.isnan(distances).all()
        found.append(int(np.nanargmin(distances)) if known else None)
    return found


class Group(NamedTuple):
    """Near-duplicates."""

    size: int
    images: list[Shown]  # not more than a few


class Sections(NamedTuple):
    """What the page shows images of."""

    clusters: list[Cluster]
    groups: list[Group]  # of near-duplicates; not more than a few
    outliers: list[Shown]  # the farthest from all others first; `certainty` is their score
    sheets: Sheets | None  # that the images are cut out of


def sections(
    run: FinishedRun,
    image_set: ImageSet | None,
    draw: Draw | None,
    kinds: Kinds | None,
) -> Sections:
    """A section for every cluster, near-duplicates, outliers, and the sheets of their images."""
    listed = _listed(run)
    copies = [list(group[:_OF_GROUP]) for group in run.duplicates[:_GROUPS]]
    lonely = [] if run.outlier is None else np.argsort(-run.outlier)[:_OUTLIERS].tolist()
    parts = [*listed, *copies, lonely]
    rows = np.asarray([row for part in parts for row in part], np.int64)
    images = None
    if draw is not None and image_set is not None:
        images = sheets(draw, rows, _BYTES, largest_side(image_set, _SIDE))
    nearest = _nearest(_centres(run))
    entries = iter([_image(run, images, i, len(rows), int(row)) for i, row in enumerate(rows)])
    shown_parts = [[next(entries) for _ in part] for part in parts]
    clusters = [
        _cluster(run, kinds, cluster, nearest[cluster], its)
        for cluster, its in enumerate(shown_parts[: len(listed)])
    ]
    groups = [
        Group(len(whole), its)
        for whole, its in zip(run.duplicates, shown_parts[len(listed) : -1], strict=False)
    ]
    return Sections(clusters, groups, [_scored(run, entry) for entry in shown_parts[-1]], images)


def _scored(run: FinishedRun, entry: Shown) -> Shown:
    """An outlier's entry, with its score instead of its confidence."""
    assert run.outlier is not None
    return entry._replace(certainty=f"{run.outlier[entry.row]:.2f}")


def _image(run: FinishedRun, images: Sheets | None, i: int, count: int, row: int) -> Shown:
    """The entry of an image, the i-th on the sheets."""
    sheet, style = 0, ""
    if images is not None:
        sheet, x, y = place(images, i, count)
        style = f"--x:{-x};--y:{-y}"
    return Shown(shown(run.ids[row]), row, f"{run.confidence[row]:.3f}", sheet, style)


def _cluster(
    run: FinishedRun,
    kinds: Kinds | None,
    cluster: int,
    nearest: int | None,
    entries: list[Shown],
) -> Cluster:
    """A cluster's section; its entries are sorted, the most certain first."""
    members = run.clusters == cluster
    size = int(members.sum())
    purity = label = None
    if kinds is not None:
        labels = kinds.labels[members]
        counts = np.bincount(labels[labels < kinds.classes])
        if counts.any():
            purity = f"{100 * counts.max() / counts.sum():.1f} %"
            label = kinds.names[int(counts.argmax())]
    half = -(-len(entries) // 2)
    return Cluster(
        number=cluster,
        name=shown(run.names[cluster]) if run.names else "",
        size=size,
        share=f"{100 * size / len(run.ids):.1f} %",
        confidence=f"{run.confidence[members].mean():.3f}" if size else "–",
        nearest=nearest if size else None,
        purity=purity,
        label=label,
        most=entries[:half],
        # The least certain first.
        least=entries[half:][::-1],
    )


class Confusion(NamedTuple):
    """Counts of labels against clusters, clusters in the order of the labels they match."""

    labels: list[str]
    clusters: list[int]
    rows: list[list[tuple[int, int]]]  # count, and percent of its label


def confusion(run: FinishedRun, kinds: Kinds | None) -> Confusion | None:
    """The confusion matrix; None without labels, or if it would be too large to read."""
    if kinds is None or not kinds.classes:
        return None
    known = kinds.labels < kinds.classes
    counts = metrics.contingency(kinds.labels[known], run.clusters[known])
    if counts.size > _CELLS:
        return None
    from scipy.optimize import linear_sum_assignment

    clusters = np.unique(run.clusters[known])
    row, column = linear_sum_assignment(counts, maximize=True)
    matched = column[np.argsort(row)].tolist()
    order = [*matched, *(c for c in range(len(clusters)) if c not in set(matched))]
    share = np.round(100 * counts / counts.sum(axis=1, keepdims=True)).astype(int)
    return Confusion(
        kinds.names[: kinds.classes],
        [int(clusters[c]) for c in order],
        [[(int(counts[r, c]), int(share[r, c])) for c in order] for r in range(len(counts))],
    )
