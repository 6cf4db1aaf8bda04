"""What the training loop is fed: a data set on the device, or block by block from the host."""

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.types import Phase
from jaxclust.training.placement import Data

# Images of a streamed set that are uploaded together.
_BLOCK_BYTES = 2**24


def epoch_rows(seed: int, phase: int, epoch: int, n: int, batch: int) -> np.ndarray:
    """Row numbers int32 [steps, batch] of an epoch: a permutation, cut into batches.

    What is missing in the last batch is taken from the permutation's start, so
    that every image is seen and every batch is full.
    """
    order = np.random.default_rng([seed, phase, epoch]).permutation(n)
    steps = -(-n // batch)
    return np.resize(order, steps * batch).astype(np.int32).reshape(steps, batch)


class Chunk(NamedTuple):
    """What the compiled loop is given, and the step of the epoch it ends before."""

    arguments: tuple[Any, ...]  # images, rows, places, start, stop
    stop: int


class Feed:
    """Gives the compiled loop its images: all of them, or the block it needs next.

    An epoch's batches are cut into blocks, and the blocks of all epochs are a grain data set:
    its thread reads and uploads a block while the device works on the one before, an epoch's
    first while it works on the last of the epoch before. Where in it a run stands follows from
    the steps it has taken, so that a checkpoint's position is the data's too. Devices that
    share batches are given their own part of a block, and a process reads its devices' parts
    alone.

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
        # Asked for at every chunk of an epoch, and for the next one's first block.
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
        """Whether each device is given images of its own."""
        shared = self.data.group is not None and self.phase.batches.split == "batch"
        return self.data.streamed and shared

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True
        self._stop_reading()
        # What is being read is waited for, so that it is not in the way of what comes next.
        with self.reading:
            self.held = None

    def chunk(self, epoch: int, start: int, stop: int) -> Chunk:
        """Steps start to stop of an epoch, or as many of them as end with a block.

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
        # It holds this feed, which holds it: blocks would outlive both until Python looks.
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
        """Images of a block's batches, [m, …] or, where devices share, [local devices, m, …]."""
        epoch, block = divmod(place, self.blocks)
        batches, first = self.batches, block * self.batches
        wanted = self.rows_of(epoch)[first : first + batches]
        group = self.data.group
        # What the last block lacks is never looked at.
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
        """Where the images of a block's batches stand in what was uploaded."""
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
    """Rows of so many batches; behind the last one it is repeated."""
    return rows[np.minimum(np.arange(first, first + batches), len(rows) - 1)]
