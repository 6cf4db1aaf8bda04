"""Images in a fixed order, with what is known of them."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from jaxclust.data.decoding import Places, Streamed
from jaxclust.data.names import Names


class Skipped(NamedTuple):
    """A file that could not be read."""

    file: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Images in a fixed order."""

    name: str
    images: Any  # np.ndarray uint8 or float32 [n, h, w, c], or Streamed in its place
    labels: np.ndarray | None  # int64 [n]; for evaluation only
    ids: Names  # file names or row numbers
    n_classes: int | None  # what the set declares, or its labels show
    skipped: tuple[Skipped, ...] = ()
    places: Places | None = None  # where each picture's file lies; None for arrays
    class_names: tuple[str, ...] = ()  # of labels 0, 1, …, where they have names

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
        """SHA-256 of shape, dtype and pixels, or of files; labels do not enter."""
        if isinstance(self.images, Streamed):
            return self.images.fingerprint()
        digest = hashlib.sha256(f"{self.images.shape} {self.images.dtype}".encode())
        digest.update(np.ascontiguousarray(self.images).data)
        return digest.hexdigest()
