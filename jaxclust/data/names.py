"""The names of very many images, in little more memory than their letters."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

# File names need not be UTF-8; other bytes are preserved.
CODE = ("utf-8", "surrogateescape")


class Names(Sequence[str]):
    """A sequence of strings held as one string of bytes, with 8 more bytes per name.

    Args:
        names: the initial ones.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._letters, self._ends = bytearray(), array("q")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self._letters += name.encode(*CODE)
        self._ends.append(len(self._letters))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield self._letters[start:end].decode(*CODE)
            start = end

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> "Names": ...
    def __getitem__(self, i: int | slice) -> "str | Names":
        if isinstance(i, slice):
            return Names(self[j] for j in range(len(self))[i])
        at = range(len(self))[i]
        start = self._ends[at - 1] if at else 0
        return self._letters[start : self._ends[at]].decode(*CODE)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self._ends == other._ends and self._letters == other._letters
        if isinstance(other, Sequence) and not isinstance(other, str):
            same = (one == two for one, two in zip(self, other, strict=True))
            return len(self) == len(other) and all(same)
        return NotImplemented

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def take(self, rows: Iterable[int]) -> "Names":
        """The names of the given rows."""
        return Names(self[int(i)] for i in rows)

    def order(self) -> np.ndarray:
        """The rows sorted by name, int [n]."""
        return np.asarray(sorted(range(len(self)), key=self.__getitem__), np.int64)

    def order_of_paths(self) -> np.ndarray:
        """The rows sorted folder by folder, as paths compare, int [n]."""
        # Zero sorts before every letter, so that a folder comes before longer names.
        parts = (name.replace("/", "\0") for name in self)
        return Names(parts).order()


def repeated(names: Sequence[str]) -> str | None:
    """The first name that was there before; None if all differ."""
    marks = np.fromiter(map(hash, names), np.int64, len(names))
    values, counts = np.unique(marks, return_counts=True)
    several, seen = set(values[counts > 1].tolist()), set()
    for name in names if several else ():
        if name in seen:
            return name
        if hash(name) in several:
            seen.add(name)
    return None
