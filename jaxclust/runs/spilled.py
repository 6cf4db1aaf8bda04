"""Arrays too large for memory: rows written to a file block by block, then read from there."""

import mmap
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.lib import format as npy


class Spilled:
    """An array whose rows are written to an .npy file, slice by slice.

    Nothing of it stays in memory. Rows are written, not mapped: a full disk is then an error,
    where a write to a mapped file would end the process.

    Args:
        path: of the file, which is created or replaced.
        shape: of the whole array.
        dtype: of its values.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
        header: dict[str, Any] = {
            "descr": npy.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        with path.open("wb") as file:
            npy.write_array_header_2_0(file, header)
            begins = file.tell()
            file.truncate(begins + dtype.itemsize * int(np.prod(shape)))
        self._is(path, shape, dtype, begins)

    @classmethod
    def existing(cls, path: Path) -> "Spilled":
        """The array of a file that was made before, with the rows it has."""
        kept, made = np.load(path, mmap_mode="r"), cls.__new__(cls)
        made._is(path, kept.shape, kept.dtype, kept.offset)
        return made

    def _is(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, begins: int) -> None:
        self.path, self.shape, self.dtype, self._begins = path, shape, dtype, begins
        self._a_row = dtype.itemsize * int(np.prod(shape[1:]))

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        """Write rows start to stop; those beyond the last are left out."""
        start, stop, _ = rows.indices(self.shape[0])
        values = np.ascontiguousarray(values, self.dtype)
        if values.shape != (stop - start, *self.shape[1:]):
            raise ValueError(f"{values.shape} given for rows {start} to {stop} of {self.shape}")
        with self.path.open("r+b") as file:
            file.seek(self._begins + start * self._a_row)
            file.write(values.data)

    def flush(self) -> None:
        """Wait until what was written is on the disk."""
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())

    def array(self) -> np.memmap:
        """The whole array; only what is accessed is read."""
        return np.load(self.path, mmap_mode="r")


def opened(tree: Any) -> Any:
    """A tree with its spilled leaves replaced by their arrays."""
    return jax.tree.map(lambda leaf: leaf.array() if isinstance(leaf, Spilled) else leaf, tree)


def whole_file(array: Any) -> Path | None:
    """The .npy file of which an array is the whole (:meth:`Spilled.array`); else None."""
    # A slice or reshape of such an array has the array as its base, not the file.
    mapped = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
    return Path(str(array.filename)) if mapped else None
