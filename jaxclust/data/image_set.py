"""Images in a fixed order, with what is known about them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from jaxclust.data.decoding import Read
from jaxclust.data.names import Names
from jaxclust.data.places import Places
from jaxclust.data.streaming import Streamed
from jaxclust.data.wide_greys import Ranges

# Files that one line can name.
_SHOWN = 3


class Skipped(NamedTuple):
    """What was not read, or not fully: a file, or a folder, whose path ends in a slash."""

    file: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order."""

    name: str
    images: Any  # np.ndarray uint8 or float32 [n, h, w, c], or Streamed in its place
    labels: np.ndarray | None  # int64 [n], -1 where not known; for evaluation only
    ids: Names  # file names or row numbers
    n_classes: int | None  # what the set declares, or its labels show
    skipped: tuple[Skipped, ...] = ()
    places: Places | None = None  # where each image's file lies; None for arrays
    class_names: tuple[str, ...] = ()  # of labels 0, 1, …, where they have names
    ranges: Ranges = field(default_factory=dict)  # used to read wide greys and integers
    others: str = ""  # what else is there besides the images, in words
    # The pictures that an encoder turned into the features in `images`; to be shown.
    pictures: Any = None
    encoder: dict[str, Any] | None = None  # its name, digest, and how it sees images
    spaces: tuple[int, ...] = ()  # of features by several encoders: the width of each
    scales: tuple[float, ...] = ()  # and what each was divided by
    mark: str = ""  # of features: identifies the pictures and the encoder

    def passed_over(self) -> str | None:
        """What was skipped and why, on one line; None for nothing."""
        shown = [f"{file} ({reason})" for file, reason in self.skipped[:_SHOWN]]
        if len(self.skipped) > _SHOWN:
            shown.append(f"{len(self.skipped) - _SHOWN} more, see skipped.csv")
        told = "; ".join([*shown, *([self.others] if self.others else [])])
        return told or None

    def take(self, rows: np.ndarray) -> "ImageSet":
        """The images of the given rows, in their order."""
        labels = None if self.labels is None else self.labels[rows]
        if isinstance(self.images, Streamed):
            images = self.images.subset(rows)
            # The names are held once.
            return replace(self, images=images, labels=labels, ids=images.ids, places=images.places)
        return replace(
            self,
            images=self.images[rows],
            labels=labels,
            ids=self.ids.take(rows),
            places=None if self.places is None else self.places.take(rows),
        )

    def fingerprint(self) -> str:
        """SHA-256 of shape, dtype and pixels, or of files; labels are not included."""
        if self.mark:
            return self.mark
        if isinstance(self.images, Streamed):
            return self.images.fingerprint()
        digest = hashlib.sha256(f"{self.images.shape} {self.images.dtype}".encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()


def rows_of(
    name: str, images: np.ndarray, labels: np.ndarray | None, n_classes: int | None
) -> ImageSet:
    """A set of arrays, images [n, h, w, c] and labels int [n], whose ids are row numbers."""
    ids = Names(str(i) for i in range(images.shape[0]))
    labels = None if labels is None else np.asarray(labels, np.int64)
    return ImageSet(name, images, labels, ids, n_classes)


def from_files(
    name: str,
    read: Read,
    *,
    labels: np.ndarray | None,
    n_classes: int | None = None,
    class_names: tuple[str, ...] = (),
    passed_over: Iterable[tuple[str, str]] = (),
    others: str = "",
) -> ImageSet:
    """A set of images from files.

    Args:
        name: of the set.
        read: its images.
        labels: int64 [n] of those.
        n_classes: if the set declares them; otherwise the class names are counted.
        class_names: of labels 0, 1, ….
        passed_over: path and reason of what was not even tried.
        others: what else is there, in words.
    """
    skipped = tuple(Skipped(*pair) for pair in (*read.skipped, *passed_over))
    return ImageSet(
        name,
        read.images,
        labels,
        read.ids,
        n_classes or len(class_names) or None,
        skipped,
        read.places,
        class_names,
        read.ranges,
        others,
    )
