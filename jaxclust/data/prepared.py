"""Data sets that tensorflow-datasets prepared as array_record, read without TensorFlow."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.data.archives import Labelled, read_labelled, synset_order
from jaxclust.data.kept import cache_dir, write_arrays
from jaxclust.data.names import Names
from jaxclust.data.places import Places, Reading


def present(folder: Path) -> bool:
    """Whether a builder's folder holds any version; the newest is read."""
    return any(folder.glob("*/dataset_info.json"))


def arrays(
    data_dir: Path, name: str, builder: str, splits: tuple[str, ...], label: str
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, h, w, c] and labels int64 [n] of a set of small images of one size.

    The decoded arrays are cached.

    Args:
        data_dir: where the builder's folder lies.
        name: of the cached file.
        builder: tensorflow-datasets' name.
        splits: read one after the other.
        label: the feature to use as labels.

    Raises:
        InputError: the files cannot be read.
    """
    cached = _cache_file(data_dir, name, builder)
    if cached.is_file():
        try:
            with np.load(cached, allow_pickle=False) as kept:
                return kept["images"], kept["labels"]
        except Exception:  # zip, zlib and header errors of a damaged file
            cached.unlink(missing_ok=True)
    images, labels = _decode(data_dir, builder, splits, label)
    write_arrays(cached, images=images, labels=labels)
    return images, labels


class Record(NamedTuple):
    """An image's bytes in a prepared set; used like a `places.Place`."""

    source: Any
    row: int
    path: Path  # of the set
    version: str  # of it

    def file(self) -> io.BytesIO:
        """What Pillow can open."""
        return io.BytesIO(self.content())

    def content(self) -> bytes:
        """The image file's bytes, unchanged."""
        return self.source[self.row]["image"]

    def mark(self) -> str:
        """Identifies this image, without reading it."""
        return f"record {self.row} of version {self.version}"


class Records(Places):
    """Images of a prepared set, as places; 8 bytes each."""

    def __init__(self, source: Any, rows: np.ndarray, path: Path, version: str) -> None:
        self.source, self.rows, self.path, self.version = source, rows, path, version

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Record:
        return Record(self.source, int(self.rows[i]), self.path, self.version)

    def _taken(self, rows: np.ndarray) -> "Records":
        return Records(self.source, self.rows[rows], self.path, self.version)


def image_files(
    data_dir: Path, builder: str, split: str, synsets: Sequence[str] | None, reading: Reading
) -> Labelled:
    """Images of any size with labels, resized and cropped, in memory or read when needed.

    Args:
        data_dir: where the builder's folder lies.
        builder: tensorflow-datasets' name.
        split: the split to read.
        synsets: ImageNet's classes to keep, numbered in this order; None: all.
        reading: how to read the images.

    Raises:
        InputError: the files cannot be read, or lack a class.
    """
    path = data_dir / builder
    source, version, names, labels = _listed(data_dir, builder, split)
    rows = np.arange(len(names))
    if synsets is not None:
        rows, labels = _of_classes(labels, synsets, path)
    wanted = names.take(rows)
    order = wanted.order()
    rows, kept = rows[order], wanted.take(order)
    return read_labelled(
        Records(source, rows, path, version), kept, labels[rows], reading, str(path)
    )


def _listed(data_dir: Path, builder: str, split: str) -> tuple[Any, str, Names, np.ndarray]:
    """A split's records, the set's version, and every record's name and label, int64 [n]."""
    import tensorflow_datasets as tfds

    try:
        source: Any = tfds.data_source(
            builder,
            data_dir=data_dir,
            split=split,
            download=False,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        found = []
        for i in range(len(source)):
            record = source[i]
            found.append((record["label"], record.get("file_name")))
        version = str(source.dataset_info.version)
    except Exception as error:  # whatever a damaged file makes tfds raise
        raise _unreadable(builder, data_dir, error) from error
    names = Names(
        f"{i:08d}" if name is None else bytes(name).decode() for i, (_, name) in enumerate(found)
    )
    return source, version, names, np.asarray([label for label, _ in found], np.int64)


def _of_classes(
    labels: np.ndarray, synsets: Sequence[str], path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some of ImageNet's classes, and all rows' labels numbered by these."""
    order = synset_order()
    number = {order.index(synset): i for i, synset in enumerate(synsets)}
    rows = np.flatnonzero(np.isin(labels, list(number)))
    labels = np.asarray([number.get(int(label), -1) for label in labels], np.int64)
    if missing := [synsets[i] for i in range(len(synsets)) if i not in labels]:
        raise InputError(
            f"the prepared set {path} lacks {len(missing)} of {len(synsets)} classes "
            f"({missing[0]}, …); prepare all of it"
        )
    return rows, labels


def _unreadable(builder: str, data_dir: Path, error: Exception) -> InputError:
    return InputError(
        f"the prepared data set {builder} under {data_dir} cannot be read "
        f"({first_line(error)}); prepare it again as array_record"
    )


def _decode(
    data_dir: Path, builder: str, splits: tuple[str, ...], label: str
) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    images, labels = [], []
    try:
        for split in splits:
            source: Any = tfds.data_source(builder, data_dir=data_dir, split=split, download=False)
            for example in source:
                images.append(example["image"])
                labels.append(example[label])
    except Exception as error:  # whatever a damaged file makes tfds raise
        raise _unreadable(builder, data_dir, error) from error
    return np.stack(images), np.asarray(labels, np.int64)


def _cache_file(data_dir: Path, name: str, builder: str) -> Path:
    """Where the decoded arrays are kept: named after the files they came from."""
    files = sorted(p for p in (data_dir / builder).rglob("*") if p.is_file())
    marks = [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in files]
    mark = hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]
    return cache_dir() / f"{name}-{mark}.npz"
