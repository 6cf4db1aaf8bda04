"""Features of one set in several files: shards of it, or those of several encoders."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data import shards
from jaxclust.data.features import read_features
from jaxclust.data.image_set import ImageSet
from jaxclust.data.names import Names, repeated


def read_several(paths: str, scales: Sequence[float] = ()) -> ImageSet:
    """Features of the same images by several encoders, side by side: `A.npz,B.npz`.

    Each is scaled so that its rows have a mean squared length of one, their mean included.

    Args:
        paths: of one file, or of several, separated by commas; a pattern of shards
            (:func:`shards.listed`) counts as one file.
        scales: what to divide each by, to scale other images' features in the same way.

    Raises:
        InputError: as :func:`read_features`; files of different images; or an id in two rows.
    """
    whole = Path(paths).expanduser()
    alone = whole.is_file() or "," not in paths
    sets = [_read(path) for path in ([paths] if alone else paths.split(","))]
    _refuse_repeated(sets[0])
    if alone:
        return sets[0]
    first = sets[0]
    for other in sets[1:]:
        if other.ids != first.ids:
            raise InputError(
                f"{other.name} has features of {len(other.ids):,} images, not the same as the "
                f"{len(first.ids):,} of {first.name}: their ids must be the same, in the same "
                "order"
            )
    labelled = next((one for one in sets if one.labels is not None), first)
    scales = tuple(scales) or tuple(max(_length(one.images), 1e-12) for one in sets)
    if len(scales) != len(sets):
        raise InputError(f"features of {len(scales)} encoders are expected, not of {len(sets)}")
    scaled = [one.images / scale for one, scale in zip(sets, scales, strict=True)]
    return replace(
        labelled,
        name="+".join(one.name for one in sets),
        images=np.concatenate(scaled, axis=1).astype(np.float32),
        spaces=tuple(one.images.shape[1] for one in sets),
        scales=scales,
    )


def _refuse_repeated(found: ImageSet) -> None:
    """InputError for an id in two rows."""
    name = repeated(found.ids)
    if name is not None:
        raise InputError(
            f"the id '{name}' is in more than one row of {found.name}; results are told apart by "
            "their ids, so give every row its own"
        )


def _length(features: np.ndarray) -> float:
    """The root of the rows' mean squared length."""
    return float(np.sqrt(np.mean(np.sum(np.square(features, dtype=np.float64), axis=1))))


def _read(path: str) -> ImageSet:
    """A file, or all shards of a pattern, one after the other.

    Raises:
        InputError: as :func:`read_features`; or a shard is missing or differs from the others.
    """
    if not shards.is_pattern(path):
        return read_features(Path(path).expanduser())
    sets = []
    for shard in shards.listed(path):
        try:
            with shards.local(shard.where) as file:
                sets.append(read_features(file))
        except OSError as error:
            raise InputError(f"the shard {shard.where} cannot be read ({error})") from error
    widths = sorted({one.images.shape[1] for one in sets})
    if len(widths) > 1:
        raise InputError(
            f"shards of {path} differ: features of {widths[0]} and {widths[-1]} values"
        )
    labels, class_names = _labels(sets, path)
    return replace(
        sets[0],
        name=path,
        images=np.concatenate([one.images for one in sets]),
        labels=labels,
        ids=Names(name for one in sets for name in one.ids),
        n_classes=None if labels is None else int(np.unique(labels[labels >= 0]).size),
        class_names=class_names,
    )


def _labels(sets: Sequence[ImageSet], path: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The shards' labels with one numbering, -1 where a shard has none; and their names."""
    labelled = [one for one in sets if one.labels is not None]
    if not labelled:
        return None, ()
    if len({bool(one.class_names) for one in labelled}) > 1:
        raise InputError(f"labels are names in some shards of {path} and numbers in others")
    names = tuple(sorted({name for one in labelled for name in one.class_names}))
    place = {name: i for i, name in enumerate(names)}
    found = []
    for one in sets:
        own = np.full(len(one.ids), -1, np.int64) if one.labels is None else one.labels
        if one.labels is not None and names:
            numbers = np.asarray([place[name] for name in one.class_names] + [-1], np.int64)
            own = numbers[own]  # -1 is the last
        found.append(own)
    return np.concatenate(found), names
