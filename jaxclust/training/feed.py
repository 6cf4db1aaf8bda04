"""Feeds the training loop: a data set on the device, or block by block from the host."""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.types import Phase
from jaxclust.training.placement import Data

# Bytes of a streamed set that are uploaded together.
_BLOCK_BYTES = 2**24


def epoch_rows(seed: int, phase: int, epoch: int, n: int, batch: int) -> np.ndarray:
    """Row numbers int32 [steps, batch] of an epoch: a permutation, cut into batches.

    The last batch is filled up from the permutation's start, so that every image is seen and every
    batch is full.
    """
    order = np.random.default_rng([seed, phase, epoch]).permutation(n)
    steps = -(-n // batch)
    return np.resize(order, steps * batch).astype(np.int32).reshape(steps, batch)


class Chunk(NamedTuple):
    """The compiled loop's arguments, and the step of the epoch before which it ends."""

    arguments: tuple[Any, ...]  # images, rows, places, start, stop
    stop: int


class Feed:
    """Gives the compiled loop its images: all of them, or the block it needs next.

    An epoch's batches are cut into blocks, and the blocks of all epochs form a grain data set: its
    thread reads and uploads a block while the device works on the previous one, across epochs too.
    A run's place in it follows from the steps it has taken, so that a checkpoint's position is also
    that of the data. Devices that share batches get their own part of a block, and a process reads
    only its devices' parts.

    Args:
        data: the set.
        phase: the phase that is fed.
        batch: images a step.
        rows_of: the rows of an epoch, int32 [batches, batch].
    """

    def __init__(
        self, data: Data, phase: Phase, batch: int, rows_of: Callable[[int], np.ndarray]
    ) -> None:
        self.data, self.phase, self.size = data, phase, batch
        # Needed at every chunk of an epoch, and for the next epoch's first block.
        self.rows_of = lru_cache(maxsize=2)(rows_of)
        n, *shape = data.images.shape
        bytes_a_batch = batch * int(np.prod(shape)) * data.images.dtype.itemsize
        an_epoch = -(-n // min(phase.batches.size, n))
        self.batches = min(an_epoch, max(1, _BLOCK_BYTES // max(bytes_a_batch, 1)))
        self.blocks = -(-an_epoch // self.batches)
        # The block in use, counted through all epochs; the reader gives the one after it.
        self.held: tuple[int, Any] | None = None
        self.reader: Any = None
        self.reading, self.closed = Lock(), False

    @property
    def sharded(self) -> bool:
        """Whether each device gets its own images."""
        shared = self.data.group is not None and self.phase.batches.split == "batch"
        return self.data.streamed and shared

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        self._stop_reading()
        # Waits for a block being read, so that it does not get in the way of what comes next.
        with self.reading:
            self.held = None

    def chunk(self, epoch: int, start: int, stop: int) -> Chunk:
        """Steps start to stop of an epoch, or only those up to the end of a block.

        Args:
            epoch: of the phase.
            start: first step, of `repeats` for each of the epoch's batches.
            stop: the step to end before.
        """
        rows = self.rows_of(epoch)
        if not self.data.streamed:
            mine = self._shared(rows)
            arguments = (self.data.images, mine, mine, np.int32(start), np.int32(stop))
            return Chunk(arguments, stop)
        repeats, batches = self.phase.batches.repeats, self.batches
        block = start // repeats // batches
        first = block * batches
        stop = min(stop, (first + batches) * repeats)
        images = self._block(epoch * self.blocks + block)
        offset = first * repeats
        arguments = (
            images,
            self._shared(_filled(rows, first, batches)),
            self._places(batches),
            np.int32(start - offset),
            np.int32(stop - offset),
        )
        return Chunk(arguments, stop)

    def _read_from(self, place: int) -> None:
        """Start an iterator over the blocks from this one on, which reads one ahead."""
        import grain  # takes a quarter of a second, and few runs stream

        self._stop_reading()
        blocks = grain.MapDataset.range(place, self.phase.epochs * self.blocks).map(self._load)
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        self.reader = iter(blocks.to_iter_dataset(options))

    def _stop_reading(self) -> None:
        if self.reader is not None:
            self.reader.close()
        # Reader and feed refer to each other: blocks would stay in memory until Python collects
        # them.
        self.reader = None

    def _block(self, place: int) -> Any:
        """The images of a block on the devices."""
        if self.held is None or self.held[0] != place:
            follows = self.held is not None and self.held[0] + 1 == place
            self.held = None  # before the next one takes its room
            if not follows:
                self._read_from(place)
            self.held = place, next(self.reader)
        return self.held[1]

    def _load(self, place: int) -> Any:
        """Read a block and upload it; on the reader's thread."""
        with self.reading:
            if self.closed:
                return ()
            images, group = self._read(place), self.data.group
            if group is not None and self.sharded:
                return group.spread(images)
            return self.data.upload(images)

    def _read(self, place: int) -> np.ndarray:
        """Images of a block's batches, [m, …] or, if devices share, [local devices, m, …]."""
        epoch, block = divmod(place, self.blocks)
        batches, first = self.batches, block * self.batches
        wanted = self.rows_of(epoch)[first : first + batches]
        group = self.data.group
        # The missing part of the last block is never looked at.
        missing = batches - len(wanted)
        if group is None or not self.sharded:
            images = self.data.images[wanted.ravel()]
            if not missing:
                return images
            room = missing * self.size
            return np.concatenate([images, np.empty((room, *images.shape[1:]), images.dtype)])
        mine = group.shares(wanted)
        images = self.data.images[mine.ravel()]
        parts = images.reshape(len(mine), -1, *images.shape[1:])
        if not missing:
            return parts
        room = (len(mine), missing * mine.shape[-1], *images.shape[1:])
        return np.concatenate([parts, np.empty(room, images.dtype)], axis=1)

    def _places(self, batches: int) -> np.ndarray:
        """The positions of the images of a block's batches in what was uploaded."""
        group = self.data.group
        if group is None or not self.sharded:
            places = np.arange(batches * self.size, dtype=np.int32)
            return self._shared(places.reshape(batches, self.size))
        share = self.size // group.size
        places = np.arange(batches * share, dtype=np.int32)
        return group.copies(places.reshape(batches, share))

    def _shared(self, table: np.ndarray) -> np.ndarray:
        group = self.data.group
        if group is None:
            return table
        return group.copies(table) if self.phase.batches.split == "inner" else group.shares(table)


def _filled(rows: np.ndarray, first: int, batches: int) -> np.ndarray:
    """Rows of this many batches; beyond the last one, it is repeated."""
    return rows[np.minimum(np.arange(first, first + batches), len(rows) - 1)]
