"""Images decoded on demand."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxclust.core.errors import RunError
from jaxclust.data.names import Names
from jaxclust.data.pixels import read, reason_of, undisturbed
from jaxclust.data.places import Places
from jaxclust.data.resizing import with_channels

# At most this many images of a block are decoded by a worker in one task.
_A_TASK = 64


class Streamed:
    """Images that are read like an array uint8 [n, h, w, c].

    Args:
        places: where they are, and by which rules they are read.
        ids: their names.
        size: side of the images, resized and cropped.
        channels: 1 or 3; images with another number are converted.
        margin: see :func:`resizing.resize_and_crop`.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        places: Places,
        ids: Names,
        size: int,
        channels: int,
        margin: float = 1.0,
    ) -> None:
        self.places, self.ids = places, ids
        self.size, self.channels, self.margin = size, channels, margin

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Like an array's."""
        return (len(self.ids), self.size, self.size, self.channels)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Decode the images of a slice or of rows int [b], several at a time.

        Raises:
            RunError: a file that could be read before no longer can.
        """
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)

        # One task per image would take more memory than a block of small images.
        each = max(1, min(_A_TASK, len(chosen) // (8 * (os.cpu_count() or 1))))

        def decode(start: int) -> None:
            for i in range(start, min(start + each, len(chosen))):
                out[i] = self._image(int(chosen[i]))

        with undisturbed(self.places.rules), ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode, range(0, len(chosen), each)):
                pass
        return out

    def _image(self, row: int) -> np.ndarray:
        try:
            found = read(self.places[row], self.size, self.margin, self.places.rules)
        except Exception as error:  # Pillow raises many kinds for damaged files
            raise RunError(
                f"{self.ids[row]} can no longer be read ({reason_of(error)}); restore the images "
                "as they were"
            ) from error
        return with_channels(found[None], self.channels)[0]

    def subset(self, rows: np.ndarray) -> "Streamed":
        """The images of the given rows, still undecoded."""
        ids = self.ids.take(rows)
        return Streamed(self.places.take(rows), ids, self.size, self.channels, self.margin)

    def seen_in(self, channels: int) -> "Streamed":
        """The same images with 1 or 3 channels."""
        return Streamed(self.places, self.ids, self.size, channels, self.margin)

    def fingerprint(self) -> str:
        """SHA-256 of the images' names, sizes in bytes, size here and ranges of greys."""
        rules = self.places.rules
        digest = hashlib.sha256(f"{self.shape} {self.margin}".encode())
        digest.update(f"{sorted(rules.ranges.items())}".encode() if rules.ranges else b"")
        sizing = (rules.resampling, rules.whole)
        digest.update(b"" if sizing == ("bilinear", False) else f"{sizing}".encode())
        digest.update(b"" if rules.margin is None else f"{rules.margin}".encode())
        for name, place in zip(self.ids, self.places, strict=True):
            digest.update(f"{name}\0{place.mark()}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
