"""Where images are: in files, or in byte ranges of one; and how to read them."""

import copy
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from jaxclust.data.names import Names
from jaxclust.data.resizing import Resampling
from jaxclust.data.wide_greys import NO_RANGES, Ranges

# Pillow refuses more, too, unless told otherwise.
MAX_MEGAPIXELS = 179.0


class Place(NamedTuple):
    """Where an image's bytes are: a file, or a byte range of one."""

    path: Path
    offset: int = 0
    size: int | None = None  # bytes; None: the whole file

    def file(self) -> Path | io.BytesIO:
        """What Pillow can open."""
        if self.size is None:
            return self.path
        with self.path.open("rb") as archive:
            archive.seek(self.offset)
            return io.BytesIO(archive.read(self.size))

    def content(self) -> bytes:
        """The image file's bytes, unchanged."""
        found = self.file()
        return found.read_bytes() if isinstance(found, Path) else found.getvalue()

    def mark(self) -> str:
        """Identifies this place's content, without reading it."""
        size = self.path.stat().st_size if self.size is None else self.size
        return f"{self.offset} {size}"


class Rules(NamedTuple):
    """How the images of a set are read, all alike."""

    max_megapixels: float = MAX_MEGAPIXELS  # larger ones are skipped
    ranges: Ranges = NO_RANGES  # of wide greys; a kind without one is measured first
    # How they are resized: with what filter, and whether whole instead of cropped.
    resampling: Resampling = "bilinear"
    whole: bool = False
    margin: float | None = None  # of the square that is cut out; None: the set's own


USUAL = Rules()


class View(NamedTuple):
    """Images as an encoder sees them: coloured squares."""

    size: int
    resampling: Resampling = "bicubic"
    whole: bool = True  # nothing is cropped; the aspect ratio is not kept
    # Else how much larger they are before the square is cut out; None: the set's own.
    margin: float | None = None


class Reading(NamedTuple):
    """How to read a set's images."""

    size: int | None = None  # side, resized and cropped to; None: the set's own
    in_memory: int | None = None  # bytes of decoded images that may be held; None: all
    rules: Rules = USUAL

    def seen_by(self, view: View | None) -> Self:
        """How to read files for an encoder: when needed, whatever their number."""
        if view is None:
            return self
        rules = self.rules._replace(
            resampling=view.resampling, whole=view.whole, margin=view.margin
        )
        return self._replace(size=view.size, in_memory=0, rules=rules)


class Places:
    """Where many images are; base of files, byte ranges of one, records of a prepared set."""

    rules = USUAL

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, i: int) -> Any:
        """A :class:`Place`, or an object used like one."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def _taken(self, rows: np.ndarray) -> "Places":
        raise NotImplementedError

    def take(self, rows: np.ndarray) -> "Places":
        """The places of the given rows int [b], read by the same rules."""
        return self._taken(rows).read_by(self.rules)

    def read_by(self, rules: Rules) -> Self:
        """The same places, to be read by other rules."""
        other = copy.copy(self)
        other.rules = rules
        return other


class Files(Places):
    """Files below a folder; only their names are held."""

    def __init__(self, root: Path, names: Names) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Place:
        return Place(self.root / self.names[i])

    def _taken(self, rows: np.ndarray) -> "Files":
        return Files(self.root, self.names.take(rows))


class Stretches(Places):
    """Byte ranges of one file; 16 bytes each."""

    def __init__(self, path: Path, offsets: np.ndarray, sizes: np.ndarray) -> None:
        self.path, self.offsets, self.sizes = path, offsets, sizes

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, i: int) -> Place:
        return Place(self.path, int(self.offsets[i]), int(self.sizes[i]))

    def _taken(self, rows: np.ndarray) -> "Stretches":
        return Stretches(self.path, self.offsets[rows], self.sizes[rows])
