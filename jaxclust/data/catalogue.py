"""The data sets users name on the command line."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxclust.core.errors import InputError, nearest_name
from jaxclust.core.rows import evenly_spread
from jaxclust.data import archives, prepared
from jaxclust.data.folder import read_folder
from jaxclust.data.image_set import ImageSet, Skipped
from jaxclust.data.names import Names
from jaxclust.data.npz import read_npz


@dataclass(frozen=True)
class Entry:
    """A named data set."""

    n_images: int
    n_classes: int
    shape: tuple[int, int, int]
    file: str  # where it lies, below the data directory; empty if built in
    how: str  # how to get it
    # (its data directory, side of the pictures or None for the set's own, bytes that may be
    # held) -> the set
    load: Callable[[Path, int | None, int | None], ImageSet]
    # Folder below it that tensorflow-datasets prepares, which serves in the file's stead.
    prepared: str = ""


def _digits(_: Path, size: int | None, in_memory: int | None) -> ImageSet:
    del size, in_memory
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return _rows("digits", images, digits.target, 10)


def _rows(name: str, images: np.ndarray, labels: np.ndarray | None, classes: int) -> ImageSet:
    ids = Names(str(i) for i in range(images.shape[0]))
    labels = None if labels is None else np.asarray(labels, np.int64)
    return ImageSet(name, images, labels, ids, classes)


def _prepared(
    name: str,
    builder: str,
    version: str,
    splits: tuple[str, ...],
    entry: dict,
    label: str = "label",
) -> Entry:
    """A set prepared by tensorflow-datasets as array_record, read without TensorFlow."""

    def load(data_dir: Path, size: int | None, in_memory: int | None) -> ImageSet:
        del size, in_memory
        images, labels = prepared.arrays(data_dir, name, builder, splits, label)
        return _rows(name, images, labels, entry["n_classes"])

    how = (
        f"prepare it on a machine with internet by `tfds build {builder} "
        "--file_format=array_record` and copy the folder"
    )
    return Entry(file=f"{builder}/{version}/", how=how, load=load, **entry)


def _local(name: str, entry: dict) -> Entry:
    """A set in one npz file with `images` and `labels`."""

    def load(data_dir: Path, size: int | None, in_memory: int | None) -> ImageSet:
        del size, in_memory
        images, labels = read_npz(data_dir / f"{name}.npz")
        return _rows(name, images, labels, entry["n_classes"])

    how = f"an npz file with arrays images (uint8, {entry['shape']} each) and labels"
    return Entry(file=f"{name}.npz", how=how, load=load, **entry)


def _archive(
    name: str,
    file: str,
    read: Callable[[Path, int, int | None], archives.Labelled],
    n: int,
    classes: int,
    builder: tuple[str, str],
    synsets: Sequence[str] | None = None,
    beside: str = "",
) -> Entry:
    """Pictures in an official archive, of 224 pixels where nothing else is asked for.

    Or in the folder that tensorflow-datasets' builder and split of this name prepared; of
    its classes those of `synsets`, if given.
    """

    def load(data_dir: Path, size: int | None, in_memory: int | None) -> ImageSet:
        size = 224 if size is None else size
        if (data_dir / file).is_file():
            found, labels = read(data_dir / file, size, in_memory)
        else:
            found, labels = prepared.pictures(data_dir, *builder, synsets, size, in_memory)
        skipped = tuple(Skipped(*pair) for pair in found.skipped)
        return ImageSet(name, found.images, labels, found.ids, classes, skipped, found.places)

    how = (
        f"put the official archive{beside}, not unpacked,"
        f" or tensorflow-datasets' prepared {builder[0]} (array_record)"
    )
    return Entry(n, classes, (224, 224, 3), file, how, load, builder[0])


def _sizes(n: int, classes: int, *shape: int) -> dict:
    return {"n_images": n, "n_classes": classes, "shape": shape}


# Where tensorflow-datasets looks for what it cannot download.
_MANUAL = "downloads/manual"
_BOTH, _TRAIN, _TEST = ("train", "test"), ("train",), ("test",)
CATALOGUE: dict[str, Entry] = {
    "digits": Entry(1797, 10, (8, 8, 1), "", "comes with scikit-learn", _digits),
    "mnist": _prepared("mnist", "mnist", "3.0.1", _BOTH, _sizes(70_000, 10, 28, 28, 1)),
    "mnist_train": _prepared(
        "mnist_train", "mnist", "3.0.1", _TRAIN, _sizes(60_000, 10, 28, 28, 1)
    ),
    "mnist_test": _prepared("mnist_test", "mnist", "3.0.1", _TEST, _sizes(10_000, 10, 28, 28, 1)),
    "fashion_mnist": _prepared(
        "fashion_mnist", "fashion_mnist", "3.0.1", _BOTH, _sizes(70_000, 10, 28, 28, 1)
    ),
    "cifar10": _prepared("cifar10", "cifar10", "3.0.2", _BOTH, _sizes(60_000, 10, 32, 32, 3)),
    "cifar10_train": _prepared(
        "cifar10_train", "cifar10", "3.0.2", _TRAIN, _sizes(50_000, 10, 32, 32, 3)
    ),
    "stl10": _prepared("stl10", "stl10", "1.0.0", _BOTH, _sizes(13_000, 10, 96, 96, 3)),
    "cifar100": _prepared("cifar100", "cifar100", "3.0.2", _BOTH, _sizes(60_000, 100, 32, 32, 3)),
    "cifar100_coarse": _prepared(
        "cifar100_coarse",
        "cifar100",
        "3.0.2",
        _BOTH,
        _sizes(60_000, 20, 32, 32, 3),
        label="coarse_label",
    ),
    "usps": _local("usps", _sizes(9298, 10, 16, 16, 1)),
    "cmu_pie": _local("cmu_pie", _sizes(2856, 68, 32, 32, 1)),
    # The subsets of Yang et al. 2016, which ICS and DERC use too.
    "frgc": _local("frgc", _sizes(2462, 20, 32, 32, 3)),
    "ytf": _local("ytf", _sizes(10_000, 41, 55, 55, 3)),
    "ilsvrc_val": _archive(
        "ilsvrc_val",
        f"{_MANUAL}/ILSVRC2012_img_val.tar",
        archives.imagenet_validation,
        50_000,
        1000,
        ("imagenet2012", "validation"),
    ),
    "imagenet10": _archive(
        "imagenet10",
        f"{_MANUAL}/ILSVRC2012_img_train.tar",
        partial(archives.imagenet_classes, archives.IMAGENET10),
        13_000,
        10,
        ("imagenet2012", "train"),
        archives.IMAGENET10,
    ),
    "imagenet_dog": _archive(
        "imagenet_dog",
        f"{_MANUAL}/ILSVRC2012_img_train.tar",
        partial(archives.imagenet_classes, archives.IMAGENET_DOG),
        19_500,
        15,
        ("imagenet2012", "train"),
        archives.IMAGENET_DOG,
    ),
    "places_val": _archive(
        "places_val",
        f"{_MANUAL}/val_256.tar",
        archives.places_validation,
        36_500,
        365,
        ("places365_small", "validation"),
        beside=" and places365_val.txt of its file lists",
    ),
    "places_train": _archive(
        "places_train",
        f"{_MANUAL}/train_256_places365standard.tar",
        archives.places_training,
        1_803_460,
        365,
        ("places365_small", "train"),
    ),
}


def default_data_dir() -> Path:
    """`JAXCLUST_DATA_DIR`, or tensorflow-datasets' own `~/tensorflow_datasets`."""
    return Path(os.environ.get("JAXCLUST_DATA_DIR", "~/tensorflow_datasets")).expanduser()


def present(name: str, data_dir: Path) -> bool:
    """Whether a named data set's files are there."""
    file = CATALOGUE[name].file
    if not file:
        return True
    path = data_dir / file
    if file.endswith("/"):
        return prepared.present(path.parent)
    ready = CATALOGUE[name].prepared
    return path.is_file() or bool(ready and prepared.present(data_dir / ready))


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
) -> ImageSet:
    """Load a data set by name, `npz:PATH` or `folder:PATH`.

    Args:
        name: see the catalogue, or a path behind a prefix.
        data_dir: where prepared sets lie.
        image_size: resize the shorter side to this and cut out the central square.
        labels_from_folders: a picture's sub-folder is its label.
        limit: keep this many images, spread evenly over the set's order.
        imbalance: keep a growing share of each class, this much of class 0, all of
            the last; linear between (the subset is drawn by `seed`).
        seed: of that draw.
        in_memory: bytes of a folder's or archive's decoded pictures that may be held; None:
            all.

    Raises:
        InputError: unknown name, missing or unusable files; says what goes where.
    """
    if name.startswith("npz:"):
        images, labels = read_npz(Path(name[4:]).expanduser())
        images_set = _rows(name, images, labels, 0)
        classes = None if labels is None else int(np.unique(labels).size)
        images_set = ImageSet(name, images, images_set.labels, images_set.ids, classes)
    elif name.startswith("folder:"):
        root = Path(name[7:]).expanduser()
        found = read_folder(root, image_size, labels_from_folders, in_memory)
        read = found.read
        bad = tuple(Skipped(*pair) for pair in read.skipped)
        images_set = ImageSet(
            name, read.images, found.labels, read.ids, None, bad, read.places, found.class_names
        )
    else:
        images_set = _load_named(name, data_dir, image_size, in_memory)
    if image_size is not None and images_set.images.shape[1:3] != (image_size, image_size):
        images_set = _resized(images_set, image_size)
    if imbalance is not None:
        images_set = images_set.take(_imbalanced(images_set, imbalance, seed))
    if limit is not None:
        if limit < 1:
            raise InputError(f"--limit must be at least 1, not {limit}")
        n = len(images_set.ids)
        if limit < n:
            images_set = images_set.take(evenly_spread(n, limit))
    return images_set


def _load_named(
    name: str, data_dir: Path, image_size: int | None, in_memory: int | None
) -> ImageSet:
    if name not in CATALOGUE:
        hint = nearest_name(name, CATALOGUE)
        raise InputError(f"unknown data set '{name}': {hint} (or npz:PATH, folder:PATH)")
    entry = CATALOGUE[name]
    if not present(name, data_dir):
        raise InputError(
            f"data set {name} is not there: {data_dir / entry.file} is wanted; {entry.how} there, "
            "or name another place by --data-dir or JAXCLUST_DATA_DIR"
        )
    return entry.load(data_dir, image_size, in_memory)


def _resized(images_set: ImageSet, size: int) -> ImageSet:
    from jaxclust.data.resizing import resize_array

    return replace(images_set, images=resize_array(images_set.images, size))


def _imbalanced(images_set: ImageSet, r_min: float, seed: int) -> np.ndarray:
    """Rows kept when class c of K keeps the share r_min + (1 - r_min) c / (K - 1)."""
    if images_set.labels is None:
        raise InputError("--imbalance needs labels, and this data set has none")
    if not 0 < r_min <= 1:
        raise InputError(f"--imbalance must lie in (0, 1], not {r_min}")
    classes = np.unique(images_set.labels)
    rng = np.random.default_rng(seed)
    kept = []
    for share, label in zip(np.linspace(r_min, 1, classes.size), classes, strict=True):
        rows = np.flatnonzero(images_set.labels == label)
        kept.append(rng.permutation(rows)[: max(1, round(share * rows.size))])
    return np.sort(np.concatenate(kept))
