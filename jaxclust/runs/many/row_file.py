"""Rows of floats in a file, read and written in stretches, of which nothing stays in memory.

A memory map would count every page that was read as the process's own.
"""

import os
from pathlib import Path

import numpy as np


class RowFile:
    """A file of rows float32 [n, width].

    Args:
        path: created, or emptied.
        width: values of a row.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width, self.rows = path, width, 0
        self._a_row = 4 * width
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

    def close(self) -> None:
        """Close and remove the file."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)

    def append(self, rows: np.ndarray) -> None:
        """Add rows [b, width] at the end."""
        self.write(self.rows, rows)
        self.rows += len(rows)

    def cut(self, rows: int) -> None:
        """Forget all rows but the first ones."""
        os.ftruncate(self._file, rows * self._a_row)
        self.rows = rows

    def write(self, start: int, rows: np.ndarray) -> None:
        """Write rows [b, width] from place `start` on."""
        left = memoryview(np.ascontiguousarray(rows, np.float32)).cast("B")
        at = start * self._a_row
        while left:
            done = os.pwrite(self._file, left, at)
            left, at = left[done:], at + done

    def read(self, start: int, stop: int, into: int | None = None) -> np.ndarray:
        """Rows start to stop; zeros follow up to `into` rows in all, if that is given."""
        found = np.zeros((stop - start if into is None else into, self.width), np.float32)
        left = memoryview(found[: stop - start]).cast("B")
        at = start * self._a_row
        while left:
            done = os.preadv(self._file, [left], at)
            if not done:
                raise OSError(f"{self.path} is shorter than it was written")
            left, at = left[done:], at + done
        return found
