"""Reading shards of features: a process's rows go to its disk; totals are shared."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from jaxclust.core import exchange, processes
from jaxclust.core.errors import InputError, first_line
from jaxclust.data import shards
from jaxclust.data.feature_shards import feature_blocks, release_memory
from jaxclust.data.shards import Shard, Skipped
from jaxclust.runs.many.held_rows import Held
from jaxclust.runs.many.row_file import RowFile
from jaxclust.runs.many.tree_growing import Scale

# Rows that are decoded at a time.
_READ_ROWS = 16_384


class Ingested(NamedTuple):
    """What was read."""

    held: Held  # this process's rows
    rows: np.ndarray  # int64 [shards]: of all processes; -1: skipped
    skipped: list[Skipped]  # of all processes
    scale: Scale  # of all rows


class _Totals(NamedTuple):
    """Sums over rows, in float64."""

    n: int
    longest: float  # squared length
    sums: np.ndarray  # [d]
    squares: np.ndarray  # [d]

    def plus(self, rows: np.ndarray) -> Self:
        """With more rows."""
        squares = np.square(rows, dtype=np.float64)
        return self._replace(
            n=self.n + len(rows),
            longest=max(self.longest, float(squares.sum(axis=1).max())),
            sums=self.sums + rows.sum(axis=0, dtype=np.float64),
            squares=self.squares + squares.sum(axis=0),
        )


class _Reader:
    """Copies shards' rows into a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file: RowFile | None = None
        self.totals: _Totals | None = None

    def begin(self, width: int) -> RowFile:
        """The file, created if this is the first row."""
        if self.file is None or self.totals is None:
            self.file = RowFile(self._folder / "read.rows", width)
            self.totals = _Totals(0, 0.0, np.zeros(width), np.zeros(width))
        return self.file

    def take(self, shard: Shard) -> int:
        """Copy a shard and return how many rows it has; if it raises, nothing of it is kept."""
        before, totals = 0 if self.file is None else self.file.rows, self.totals
        try:
            with shards.local(shard.where) as path:
                for rows in feature_blocks(path, _READ_ROWS):
                    file = self.begin(rows.shape[1])
                    if rows.shape[1] != file.width:
                        raise InputError(
                            f"its features have {rows.shape[1]} values, others have {file.width}"
                        )
                    file.append(rows)
                    assert self.totals is not None
                    self.totals = self.totals.plus(rows)
        except Exception:
            if totals is None and self.file is not None:
                self.file.close()
                self.file = None
            elif self.file is not None:
                self.file.cut(before)
            self.totals = totals
            raise
        return 0 if self.file is None else self.file.rows - before


def ingested(
    found: Sequence[Shard], folder: Path, strict: bool, say: Callable[[str], None]
) -> Ingested:
    """Copy this process's shards' rows into a file, and tell the others what they must know.

    Args:
        found: all shards, of which each process reads its own.
        folder: for the file.
        strict: refuse a missing or damaged shard; otherwise it is skipped and listed.
        say: told about progress.

    Raises:
        InputError: no shard can be read, some differ in width, or, if strict, one is unreadable.
    """
    numbers = np.arange(len(found), dtype=np.int32)[processes.share_of_process()]
    reader = _Reader(folder)
    counts, skipped = _read_own(found, numbers, reader, strict, say)
    told = exchange.texts_of_all(json.dumps(skipped))
    everyone = [Skipped(*one) for text in told for one in json.loads(text)]
    width = _width(0 if reader.file is None else reader.file.width)
    if strict and everyone:
        raise InputError(f"{everyone[0].where} cannot be read ({everyone[0].reason})")
    if not width:
        why = f" ({everyone[0].where}: {everyone[0].reason})" if everyone else ""
        raise InputError(f"none of {len(found)} shards holds features{why}")
    file = reader.begin(width)
    assert reader.totals is not None
    read = np.maximum(counts[numbers], 0)
    offsets = np.concatenate([[0], np.cumsum(read)]).astype(np.int64)
    ends = np.asarray([0, file.rows], np.int64)
    held = Held(file, numbers, offsets, np.arange(file.rows), ends)
    rows = exchange.summed(counts)
    return Ingested(held, rows, everyone, _scale(reader.totals))


def _read_own(
    found: Sequence[Shard],
    numbers: np.ndarray,
    reader: _Reader,
    strict: bool,
    say: Callable[[str], None],
) -> tuple[np.ndarray, list[Skipped]]:
    """Read this process's shards: (rows of each of all shards, int64; what was skipped)."""
    counts, skipped = np.zeros(len(found), np.int64), []
    for number in numbers.tolist():
        try:
            counts[number] = reader.take(found[number])
            say(f"read {found[number].where}: {counts[number]:,} rows")
        # Parquet, Arrow and remote stores have errors of every kind.
        except Exception as error:
            if not shards.is_damage(error):
                raise
            counts[number] = -1
            skipped.append(Skipped(found[number].where, first_line(error)))
            if strict:
                break
    release_memory()
    return counts, skipped


def _width(mine: int) -> int:
    """The processes' common width of features; 0: nobody has any."""
    widths = exchange.of_all(np.asarray(mine, np.int32))
    different = sorted({int(width) for width in widths if width})
    if len(different) > 1:
        raise InputError(f"the shards' features have {different[0]} and {different[1]} values")
    return different[0] if different else 0


def _scale(totals: _Totals) -> Scale:
    """Of all processes' rows."""
    n = int(exchange.summed(np.asarray([totals.n], np.int64))[0])
    longest = exchange.of_all(np.asarray(np.sqrt(totals.longest), np.float32))
    # Rounded up: no row is longer.
    radius = float(np.nextafter(longest.max(), np.float32(np.inf)))
    mean = _exactly_summed(totals.sums) / n
    variance = np.maximum(_exactly_summed(totals.squares) / n - mean**2, 0)
    return Scale(n, radius, float(np.mean(variance)))


def _exactly_summed(values: np.ndarray) -> np.ndarray:
    """The sum over processes of float64 values, which are exchanged as pairs of float32."""
    high = values.astype(np.float32)
    pairs = exchange.of_all(np.stack([high, (values - high).astype(np.float32)]))
    return pairs.astype(np.float64).sum(axis=(0, 1))
