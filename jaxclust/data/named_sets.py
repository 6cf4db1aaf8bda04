"""The data sets that have names: what they hold, and where their files go."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data import archives, prepared
from jaxclust.data.image_set import ImageSet, from_files, rows_of
from jaxclust.data.npz import read_npz
from jaxclust.data.places import Reading


@dataclass(frozen=True)
class Entry:
    """A named data set."""

    n_images: int
    n_classes: int
    shape: tuple[int, int, int]
    file: str  # its path below the data directory; empty if built in
    how: str  # how to get it
    load: Callable[[Path, Reading], ImageSet]  # of its data directory
    # Folder below it that tensorflow-datasets prepares, used if the file is missing.
    prepared: str = ""


def _digits(_: Path, reading: Reading) -> ImageSet:
    del reading
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return rows_of("digits", images, digits.target, 10)


def _prepared(
    name: str,
    builder: str,
    version: str,
    splits: tuple[str, ...],
    entry: dict,
    label: str = "label",
) -> Entry:
    """A set prepared by tensorflow-datasets as array_record, read without TensorFlow.

    NAME.npz in the data directory, with `images` and `labels`, is used instead if present and needs
    no array-record package.
    """

    def load(data_dir: Path, reading: Reading) -> ImageSet:
        if (data_dir / f"{name}.npz").is_file():
            return _in_npz(name, entry, data_dir, reading)
        images, labels = prepared.arrays(data_dir, name, builder, splits, label)
        return rows_of(name, images, labels, entry["n_classes"])

    how = (
        f"prepare it on a machine with internet using `tfds build {builder} "
        f"--file_format=array_record` and copy the folder (or put {name}.npz with arrays images "
        "and labels)"
    )
    return Entry(file=f"{builder}/{version}/", how=how, load=load, **entry)


def _in_npz(name: str, entry: dict, data_dir: Path, reading: Reading) -> ImageSet:
    path = data_dir / f"{name}.npz"
    found = read_npz(path, reading.rules.ranges)
    if found.images.shape[1:] != entry["shape"]:
        raise InputError(
            f"the images in {path} have shape {found.images.shape[1:]}, those of {name} "
            f"{entry['shape']}; give npz:{path} to cluster them as a set of their own"
        )
    return replace(found, name=name, n_classes=entry["n_classes"])


def _local(name: str, entry: dict) -> Entry:
    """A set in one npz file with `images` and `labels`."""
    load = partial(_in_npz, name, entry)
    how = f"an npz file with arrays images (uint8, {entry['shape']} each) and labels"
    return Entry(file=f"{name}.npz", how=how, load=load, **entry)


def _archive(
    name: str,
    file: str,
    read: Callable[[Path, Reading], archives.Labelled],
    n: int,
    classes: int,
    builder: tuple[str, str],
    synsets: Sequence[str] | None = None,
    beside: str = "",
) -> Entry:
    """Images in an official archive, of 224 pixels unless another size is given.

    Or in the folder that tensorflow-datasets prepared for this builder and split; of its classes
    only those in `synsets`, if given.
    """

    def load(data_dir: Path, reading: Reading) -> ImageSet:
        if (data_dir / file).is_file():
            found, labels = read(data_dir / file, reading)
        else:
            found, labels = prepared.image_files(data_dir, *builder, synsets, reading)
        return from_files(name, found, labels=labels, n_classes=classes)

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
    return Path(os.environ.get("JAXCLUST_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def present(name: str, data_dir: Path) -> bool:
    """Whether a named data set's files are there."""
    file = CATALOGUE[name].file
    if not file:
        return True
    path = data_dir / file
    if file.endswith("/"):
        return (data_dir / f"{name}.npz").is_file() or prepared.present(path.parent)
    ready = CATALOGUE[name].prepared
    return path.is_file() or bool(ready and prepared.present(data_dir / ready))
