"""The data sets that users give on the command line: a name, or a prefix and a path."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxclust.core.errors import InputError, nearest_name
from jaxclust.core.rows import evenly_spread
from jaxclust.data.feature_sets import read_several
from jaxclust.data.folder import read_folder
from jaxclust.data.image_set import ImageSet, from_files
from jaxclust.data.named_sets import CATALOGUE as CATALOGUE
from jaxclust.data.named_sets import Entry as Entry
from jaxclust.data.named_sets import default_data_dir as default_data_dir
from jaxclust.data.named_sets import present
from jaxclust.data.npz import read_npz
from jaxclust.data.places import MAX_MEGAPIXELS, Reading, Rules, View
from jaxclust.data.resizing import Resized, resize_array
from jaxclust.data.streaming import Streamed
from jaxclust.data.tar_images import read_tar
from jaxclust.data.wide_greys import Ranges


def load(
    name: str,
    data_dir: Path,
    *,
    image_size: int | None = None,
    labels_from_folders: bool = False,
    limit: int | None = None,
    imbalance: float | None = None,
    seed: int = 0,
    in_memory: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    ranges: Ranges | None = None,
    view: View | None = None,
    scales: Sequence[float] = (),
) -> ImageSet:
    """Load a data set by name, `npz:PATH`, `folder:PATH`, `tar:PATH` or `features:PATH`.

    Args:
        name: one from the catalogue, or a prefix and a path.
        data_dir: where prepared sets are.
        image_size: resize the shorter side to this and cut out the central square.
        labels_from_folders: an image's sub-folder is its label.
        limit: keep this many images, spread evenly over the set's order.
        imbalance: keep this share of class 0 and all of the last, linear in between.
        seed: for drawing those.
        in_memory: bytes of images decoded from files that may be held; None: all.
        max_megapixels: image files with more are skipped.
        ranges: of wide greys and integers, as in an :class:`ImageSet`; None: its own.
        view: an encoder's, in place of `image_size`; images are read when needed.
        scales: of features by several encoders, as in an :class:`ImageSet`; else their own.

    Raises:
        InputError: unknown name, missing or unusable files; says what goes where.
    """
    rules = Rules(max_megapixels, {k: (low, high) for k, (low, high) in (ranges or {}).items()})
    reading = Reading(image_size, in_memory, rules).seen_by(view)
    found = _found(name, data_dir, reading, labels_from_folders, scales)
    found = _resized(found, None if view else image_size)
    return _viewed(_limited(_imbalanced(found, imbalance, seed), limit), view)


def _viewed(images_set: ImageSet, view: View | None) -> ImageSet:
    """The images as an encoder sees them, if there is one; nothing is resized yet."""
    images = images_set.images
    if view is None:
        return images_set
    if isinstance(images, Streamed):
        return replace(images_set, images=images.seen_in(3))
    if len(images.shape) != 4 or images.dtype != np.uint8:
        raise InputError(
            f"an ‹encoder› needs uint8 images, but {images_set.name} holds {images.dtype} values "
            f"of shape {images.shape[1:]}; give none"
        )
    if images.shape[3] not in {1, 3}:
        raise InputError(
            f"an ‹encoder› needs grey or coloured images, but those of {images_set.name} have "
            f"{images.shape[3]} channels; store the three colours alone, or give --encoder none"
        )
    resized = Resized(
        images, view.size, view.resampling, whole=view.whole, margin=view.margin or 1.0
    )
    return replace(images_set, images=resized)


def _resized(images_set: ImageSet, size: int | None) -> ImageSet:
    shape = images_set.images.shape
    if size is None:
        return images_set
    if len(shape) == 2:
        raise InputError(
            f"{images_set.name} holds features, which have no ‹image_size›; leave it out"
        )
    if shape[1:3] == (size, size):
        return images_set
    return replace(images_set, images=resize_array(images_set.images, size))


def named(source: str, *, features: bool = False) -> str:
    """Add :func:`load`'s prefix to a path; a prefixed path or a set's name stays as it is.

    Args:
        source: a path, or what :func:`load` takes.
        features: whether a path is that of features.

    Raises:
        InputError: there is nothing at the path.
    """
    if source in CATALOGUE or source.startswith(("folder:", "npz:", "tar:", "features:")):
        return source
    path = Path(source).expanduser()
    if features and "," in source and not path.exists():
        return f"features:{source}"
    if not path.exists():
        raise InputError(
            f"no such images: {source}; give a folder, an image, an npz file or a data set's name"
        )
    if features:
        return f"features:{path}"
    kind = {".npz": "npz", ".tar": "tar"}.get(path.suffix, "folder")
    return f"{kind}:{path}"


def _limited(images_set: ImageSet, limit: int | None) -> ImageSet:
    n = len(images_set.ids)
    if limit is not None and limit < 1:
        raise InputError(f"‹limit› must be at least 1, not {limit}")
    return images_set if limit is None or limit >= n else images_set.take(evenly_spread(n, limit))


def _found(
    name: str,
    data_dir: Path,
    reading: Reading,
    labels_from_folders: bool,
    scales: Sequence[float],
) -> ImageSet:
    """The whole set by its name or path."""
    if name.startswith("npz:"):
        found = read_npz(Path(name[4:]).expanduser(), reading.rules.ranges)
        return replace(found, name=name)
    if name.startswith("features:"):
        return replace(read_several(name[9:], scales), name=name)
    if not name.startswith(("tar:", "folder:")):
        return _named(name, data_dir, reading)
    kind, _, path = name.partition(":")
    place = Path(path).expanduser()
    if kind == "tar":
        found = read_tar(place, reading, labels_from_folders)
    else:
        size, in_memory, rules = reading
        found = read_folder(place, size, labels_from_folders, in_memory, rules)
    return from_files(
        name,
        found.read,
        labels=found.labels,
        class_names=found.class_names,
        passed_over=found.passed_over,
        others=found.others,
    )


def _named(name: str, data_dir: Path, reading: Reading) -> ImageSet:
    if name not in CATALOGUE:
        hint = nearest_name(name, CATALOGUE)
        raise InputError(
            f"unknown data set '{name}': {hint} (or npz:PATH, folder:PATH, tar:PATH, features:PATH)"
        )
    entry = CATALOGUE[name]
    if not present(name, data_dir):
        raise InputError(
            f"data set {name} is missing: {data_dir / entry.file} is needed; {entry.how} there, or "
            "name another place with ‹data_dir› or JAXCLUST_DATA_DIR"
        )
    return entry.load(data_dir, reading)


def _imbalanced(images_set: ImageSet, r_min: float | None, seed: int) -> ImageSet:
    """The set in which class c of K keeps the share r_min + (1 - r_min) c / (K - 1).

    Images of unknown class are left out. None keeps all.
    """
    if r_min is None:
        return images_set
    if images_set.labels is None:
        raise InputError("‹imbalance› needs labels, and this data set has none")
    if not 0 < r_min <= 1:
        raise InputError(f"‹imbalance› must lie in (0, 1], not {r_min}")
    classes = np.unique(images_set.labels[images_set.labels >= 0])
    rng = np.random.default_rng(seed)
    kept = []
    for share, label in zip(np.linspace(r_min, 1, classes.size), classes, strict=True):
        rows = np.flatnonzero(images_set.labels == label)
        kept.append(rng.permutation(rows)[: max(1, round(share * rows.size))])
    return images_set.take(np.sort(np.concatenate(kept)))
