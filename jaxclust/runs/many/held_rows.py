"""This process's rows, on disk, in an order in which the rows of each node lie together."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxclust.clustering.row_blocks import padded_rows
from jaxclust.core.reading import read_ahead
from jaxclust.runs.many.row_file import RowFile

# Bytes of rows that are worked on at a time.
_BLOCK_BYTES = 2**23


class Stretch(NamedTuple):
    """Rows of one node that are worked on together."""

    node: int
    start: int
    stop: int


class Held(NamedTuple):
    """Rows, and where they come from."""

    file: RowFile
    shards: np.ndarray  # int32 [s]: the numbers of this process's shards
    offsets: np.ndarray  # int64 [s + 1]: rows before each of them, as they were read
    order: np.ndarray  # int64 [n]: the place at which each row of the file was read
    starts: np.ndarray  # int64 [nodes + 1]: where in the file each node's rows begin

    @property
    def width(self) -> int:
        """Values of a row."""
        return self.file.width

    @property
    def nodes(self) -> int:
        """How many nodes the rows belong to."""
        return len(self.starts) - 1


def whole(held: Held) -> Held:
    """The same rows, all of one node."""
    return held._replace(starts=held.starts[[0, -1]])


def most_rows(width: int) -> int:
    """Rows of the largest block: a power of two."""
    return max(1024, 2 ** int(np.log2(_BLOCK_BYTES / (4 * width))))


def stretches(held: Held, nodes: Iterable[int]) -> list[Stretch]:
    """What is worked on, block by block, to visit all rows of some nodes."""
    most = most_rows(held.width)
    return [
        Stretch(node, at, min(at + most, int(held.starts[node + 1])))
        for node in nodes
        for at in range(int(held.starts[node]), int(held.starts[node + 1]), most)
    ]


def blocks(held: Held, nodes: Iterable[int]) -> Iterator[tuple[Stretch, np.ndarray]]:
    """Yield (stretch, its rows, padded with zeros to one of few sizes)."""
    most = most_rows(held.width)

    def read(part: Stretch) -> np.ndarray:
        size = padded_rows(part.stop - part.start, most)
        return held.file.read(part.start, part.stop, size)

    yield from read_ahead(read, stretches(held, nodes))


def origins(held: Held, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """(shard, place in it) of rows of the file: two arrays int32 [stop - start]."""
    read = held.order[start:stop]
    own = np.searchsorted(held.offsets, read, side="right") - 1
    return held.shards[own], (read - held.offsets[own]).astype(np.int32)


def regrouped(held: Held, groups: np.ndarray, count: int, path: Path) -> Held:
    """The rows written anew, those of each group together; within one they keep their order.

    Args:
        held: the rows; their file is removed.
        groups: int32 [n]: of each row of the file.
        count: how many groups there are.
        path: of the new file.
    """
    sizes = np.bincount(groups, minlength=count)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    file, places = RowFile(path, held.width), starts[:-1].copy()
    order = np.empty_like(held.order)
    for part, rows in blocks(held, range(held.nodes)):
        mine = groups[part.start : part.stop]
        by_group = np.argsort(mine, kind="stable")
        there, first = np.unique(mine[by_group], return_index=True)
        for group, own in zip(there, np.split(by_group, first[1:]), strict=True):
            at = int(places[group])
            file.write(at, rows[own])
            order[at : at + len(own)] = held.order[part.start + own]
            places[group] += len(own)
    file.rows = len(order)
    held.file.close()
    return held._replace(file=file, order=order, starts=starts)
