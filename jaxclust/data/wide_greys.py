"""Grey values wider than eight bits: one range for a whole set, never one per image.

Each way of storing them has its own range, under the name that configs record:
`16-bit`, `32-bit` and `float` in files, an array's dtype (`uint16`, `int64`, ...) in npz.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jaxclust.core import processes

# Lowest and highest value, which become 0 and 255, by the way of storing.
Ranges = Mapping[str, tuple[float, float]]
NO_RANGES: Ranges = MappingProxyType({})

KINDS = ("16-bit", "32-bit", "float")
# This share of all values may lie below the range, and as many above: hot pixels.
_OUTSIDE = 0.001
_BINS = 2**16


class Spread(NamedTuple):
    """How often values occur, in bins: 128 per power of two, for either sign."""

    low: float
    high: float
    bins: np.ndarray  # uint16 [b], those that occur
    counts: np.ndarray  # int64 [b]

    @classmethod
    def of(cls, values: np.ndarray) -> "Spread":
        """The spread of a non-empty array of finite numbers, of any shape and dtype."""
        counts = np.bincount(_bin(values).ravel(), minlength=_BINS)
        bins = np.flatnonzero(counts)
        return cls(float(values.min()), float(values.max()), bins.astype(np.uint16), counts[bins])


class Totals:
    """The spread of the values of many images, by kind."""

    def __init__(self) -> None:
        self.counts = np.zeros((len(KINDS), _BINS), np.int64)
        self.lows, self.highs = np.full(len(KINDS), np.inf), np.full(len(KINDS), -np.inf)

    def add(self, kind: str, spread: Spread) -> None:
        """Count an image's values among those of a kind."""
        at = KINDS.index(kind)
        self.counts[at, spread.bins] += spread.counts
        self.lows[at] = min(self.lows[at], spread.low)
        self.highs[at] = max(self.highs[at], spread.high)

    def of_all_processes(self) -> "Totals":
        """The totals of all processes that share a run, the same on each; each has to call this."""
        if not processes.largest_of_processes(np.array([self.counts.any()])).any():
            return self
        mine = processes.share_of_process()
        merged = Totals()
        # As bytes, which JAX passes on unchanged; a process leaves the others' rows empty.
        for name, merge in (("counts", np.sum), ("lows", np.min), ("highs", np.max)):
            own = getattr(self, name)
            rows = np.zeros((mine.step, own.nbytes), np.uint8)
            rows[mine.start] = np.frombuffer(own.tobytes(), np.uint8)
            every = np.ascontiguousarray(processes.largest_of_processes(rows))
            every = every.view(own.dtype).reshape(mine.step, *own.shape)
            setattr(merged, name, merge(every, axis=0))
        return merged

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The range of each kind that occurs; see :func:`range_of`."""
        found = {}
        for i, kind in enumerate(KINDS):
            bins = np.flatnonzero(self.counts[i])
            if bins.size:
                counts = self.counts[i, bins]
                spread = Spread(self.lows[i], self.highs[i], bins.astype(np.uint16), counts)
                found[kind] = range_of(spread, integers=kind != "float")
        return found


def range_of(spread: Spread, *, integers: bool) -> tuple[float, float]:
    """The values that become 0 and 255.

    Integers: 0 and the largest value of the fewest bits, 8 or more, that hold them, so that 12-bit
    images in 16-bit files get 0 and 4095; signed if some are negative. Floats: 0 and 1, or -1 and
    1, if they lie in between, else their own minimum and maximum. A thousandth of the values at
    either end is ignored.
    """
    low, high = _middle(spread)
    if integers:
        bits = max(8, int(max(high, -low - 1)).bit_length() + (low < 0))
        return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if low < 0 else (0.0, 2.0**bits - 1)
    if low >= -1 and high <= 1:
        return (-1.0 if low < 0 else 0.0), 1.0
    # Images of one value have no range of their own.
    return (low, high) if high > low else (min(low, 0.0), max(high, 0.0))


def to_bytes(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Numbers of any shape as uint8; `limits` become 0 and 255, and values outside are clipped."""
    low, high = limits
    scaled = (np.asarray(values, np.float64) - low) * (255 / (high - low))
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def _middle(spread: Spread) -> tuple[float, float]:
    """Bounds of all values except those at the ends that are ignored."""
    below = np.cumsum(spread.counts)
    first = int(np.searchsorted(below, _OUTSIDE * below[-1], side="right"))
    last = int(np.searchsorted(below, (1 - _OUTSIDE) * below[-1], side="left"))
    least, _ = _edges(spread.bins[min(first, len(below) - 1)])
    _, most = _edges(spread.bins[last])
    return max(spread.low, least), min(spread.high, most)


def _bin(values: np.ndarray) -> np.ndarray:
    """Sign, exponent and seven bits of each value as float32, in the values' order."""
    with np.errstate(over="ignore"):
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(2**31))
    return ordered >> 16


def _edges(which: np.integer) -> tuple[float, float]:
    """Least and largest float32 of a bin."""
    ends = (np.uint32(which) << np.uint32(16)) + np.array([0, 2**16 - 1], np.uint32)
    bits = np.where(ends >> 31, ends & np.uint32(2**31 - 1), ~ends)
    low, high = bits.astype(np.uint32).view(np.float32)
    # Bits beyond the largest numbers are not numbers.
    return float(np.nan_to_num(low, nan=-np.inf)), float(np.nan_to_num(high, nan=np.inf))
