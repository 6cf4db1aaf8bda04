"""Images from files or archives: decoded all at once, or when needed."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.data.formats import formats
from jaxclust.data.kept import looked, mark_of_files, note_looked
from jaxclust.data.names import Names
from jaxclust.data.pixels import Seen, look_at, reason_of, undisturbed
from jaxclust.data.places import Files, Places, Rules
from jaxclust.data.places import Place as Place
from jaxclust.data.streaming import Streamed
from jaxclust.data.wide_greys import NO_RANGES, Ranges, Totals

# Images decoded ahead of the reader.
_AT_ONCE = 256
# Added to the number of channels for images in files with several pages.
_PAGES = 4


class Read(NamedTuple):
    """Images of one size."""

    images: np.ndarray | Streamed  # uint8 [n, h, w, c]
    kept: np.ndarray  # int [n]: the images' indices among the places
    places: Places  # of these images
    ids: Names
    skipped: list[tuple[str, str]]  # name of each that was not fully read, and why
    ranges: Ranges = NO_RANGES  # used to convert wide greys to eight bits


@dataclass(frozen=True)
class _Wanted:
    """What to read, and how."""

    places: Places
    names: Names
    size: int | None
    margin: float
    rules: Rules

    def seen(self, row: int) -> Seen:
        """The image of a row; see :func:`pixels.look_at`."""
        return look_at(self.places[row], self.size, self.margin, self.rules)

    def seen_or_reason(self, row: int) -> Seen | str:
        """The image of a row, or why it cannot be read."""
        try:
            return self.seen(row)
        except Exception as error:  # Pillow raises many kinds for damaged files
            name = self.names[row]
            return reason_of(error).replace(str(self.places[row].path), name)


@dataclass
class _Found:
    """What was found after looking at each of n images."""

    channels: np.ndarray  # int [n]; 0: cannot be read
    ranges: Ranges
    skipped: dict[int, str] = field(default_factory=dict)
    arrays: dict[int, np.ndarray] = field(default_factory=dict)  # of those held in memory

    def note(self, row: int, seen: Seen | str) -> None:
        """Record why an image was not read, or not fully."""
        if isinstance(seen, str):
            self.channels[row], self.skipped[row] = 0, seen
        elif seen.pages > 1:
            told = "page 2 is" if seen.pages == 2 else f"pages 2 to {seen.pages} are"
            self.skipped[row] = f"{told} not read; save each page as a separate file"


def read_images(
    places: Places,
    names: Names,
    size: int | None,
    in_memory: int | None,
    where: str,
    margin: float = 1.0,
    *,
    in_part: bool = False,
) -> Read:
    """Decode images; unreadable ones are skipped and named.

    If all are grey, they have one channel, otherwise three. All wide greys of a kind share one
    range: that of the places' rules, or :func:`wide_greys.range_of`.

    Args:
        places: where they are.
        names: one per image.
        size: see :func:`resizing.resize_and_crop`; None needs images of one size.
        in_memory: bytes of decoded images that may be held; larger sets are read when needed.
        where: what they are in, for messages.
        margin: as for the size.
        in_part: these are a part of the set, so that all of them may be unreadable.

    Raises:
        InputError: no readable image, mixed sizes, or more than half unreadable.
    """
    held = None if in_memory is None or size is None else in_memory // (3 * size**2)
    streamed = held is not None and len(places) > held
    wanted = _Wanted(places, names, size, margin, places.rules)
    with undisturbed(places.rules):
        found = _looked_through(wanted) if streamed else _held(wanted)
    if not in_part:
        check_readable(found.channels > 0, found.skipped, names, where)
    return _kept(found, wanted, streamed, where)


def _kept(found: _Found, wanted: _Wanted, streamed: bool, where: str) -> Read:
    """The images that can be read, in memory or to be read when needed."""
    places, names, size, margin = wanted.places, wanted.names, wanted.size, wanted.margin
    kept = np.flatnonzero(found.channels)
    if kept.size < len(places):
        places, names = places.take(kept), names.take(kept)
    places = places.read_by(wanted.rules._replace(ranges=found.ranges))
    if streamed and size is not None:
        images = Streamed(places, names, size, int(found.channels.max()), margin)
    else:
        arrays = [found.arrays[int(i)] for i in kept]
        images = _stack(arrays, names, where) if arrays else _nothing(size)
    skipped = [(wanted.names[i], reason) for i, reason in sorted(found.skipped.items())]
    return Read(images, kept, places, names, skipped, found.ranges)


def _nothing(size: int | None) -> np.ndarray:
    side = size or 1
    return np.zeros((0, side, side, 3), np.uint8)


def check_readable(
    readable: np.ndarray, reasons: Mapping[int, str], names: Sequence[str], where: str
) -> None:
    """InputError if nothing can be read, or if this looks like the wrong folder.

    Args:
        readable: bool [n].
        reasons: why others cannot be read, by their numbers.
        names: n of them.
        where: what they are in.
    """
    bad = np.flatnonzero(~readable)
    if not bad.size:
        return
    # Python users see the setting's name in the list of skipped files, too.
    why = reasons[int(bad[0])].replace("max_megapixels", "‹max_megapixels›")
    first = f"{names[int(bad[0])]}: {why}"
    if bad.size == len(names):
        raise InputError(f"none of the {len(names)} images in {where} can be read ({first})")
    if 2 * bad.size > len(names):
        raise InputError(
            f"{bad.size} of the {len(names)} images in {where} cannot be read ({first}, …); "
            "more than half unreadable suggests a wrong folder"
        )


def _held(wanted: _Wanted) -> _Found:
    """Every image in memory; wide greys are decoded again once their range is known."""
    n = len(wanted.places)
    found, totals, waiting = _Found(np.zeros(n, int), {}), Totals(), []
    for i, seen in zip(range(n), _by_workers(wanted.seen_or_reason, range(n)), strict=True):
        found.note(i, seen)
        if isinstance(seen, str):
            continue
        found.channels[i] = seen.channels
        if seen.spread is not None:
            totals.add(seen.kind, seen.spread)
            waiting.append(i)
        elif seen.array is not None:
            found.arrays[i] = seen.array
    found.ranges = {**wanted.rules.ranges, **totals.ranges()}
    again = _with_ranges(wanted, found.ranges)
    for i, seen in zip(waiting, _by_workers(again.seen_or_reason, waiting), strict=True):
        found.note(i, seen)
        if not isinstance(seen, str) and seen.array is not None:
            found.arrays[i] = seen.array
    return found


def _looked_through(wanted: _Wanted) -> _Found:
    """Find what can be read, and the ranges; no image is kept.

    For files that were checked before and have not changed, the stored result is used.
    """
    mark = _mark(wanted)
    known = None if mark is None else looked(mark)
    told, ranges = _look_through(wanted) if known is None else known
    if mark is not None and known is None:
        note_looked(mark, told, {kind: (low, high) for kind, (low, high) in ranges.items()})
    found = _Found(told.astype(int) % _PAGES, ranges)
    odd = np.flatnonzero((told == 0) | (told >= _PAGES)).tolist()
    again = _with_ranges(wanted, ranges)
    for i, seen in zip(odd, _by_workers(again.seen_or_reason, odd), strict=True):
        found.note(i, seen)
        if not isinstance(seen, str):
            found.channels[i] = seen.channels
    return found


def _mark(wanted: _Wanted) -> str | None:
    """Identifies these files and how they are read; None for archives and several processes."""
    places = wanted.places
    if not isinstance(places, Files) or processes.several():
        return None
    rules = wanted.rules._replace(ranges=dict(wanted.rules.ranges))
    about = f"1 {wanted.size} {wanted.margin} {rules} {sorted(formats())}"
    return mark_of_files(about, (place.path for place in places))


def _look_through(wanted: _Wanted) -> tuple[np.ndarray, Ranges]:
    """A number for every image, 0 if it cannot be read, and the ranges of wide greys.

    With several processes, each checks its own share and they exchange results.
    """
    n = len(wanted.places)
    mine = range(n)[processes.share_of_process()]
    told, totals = np.zeros(n, np.uint8), Totals()

    def look(i: int) -> tuple[int, Seen] | None:
        with suppress(Exception):  # the reason is found later
            return i, wanted.seen(i)._replace(array=None)

    for one in _by_workers(look, mine):
        if one is None:
            continue
        row, seen = one
        told[row] = seen.channels + _PAGES * (seen.pages > 1)
        if seen.spread is not None:
            totals.add(seen.kind, seen.spread)
    told = processes.largest_of_processes(told)
    return told, {**wanted.rules.ranges, **totals.of_all_processes().ranges()}


def _with_ranges(wanted: _Wanted, ranges: Ranges) -> _Wanted:
    rules = wanted.rules._replace(ranges=ranges)
    return _Wanted(wanted.places, wanted.names, wanted.size, wanted.margin, rules)


def _by_workers(function: Callable[[int], Any], rows: Sequence[int]) -> Iterator[Any]:
    """`function` of each row, in order, computed a few at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(rows), _AT_ONCE):
            yield from pool.map(function, rows[start : start + _AT_ONCE])


def _stack(decoded: list[np.ndarray], ids: Names, where: str) -> np.ndarray:
    for one, name in zip(decoded, ids, strict=True):
        if one.shape[:2] != decoded[0].shape[:2]:
            (h0, w0), (h, w) = decoded[0].shape[:2], one.shape[:2]
            raise InputError(
                f"the images in {where} differ in size ({ids[0]}: {w0}x{h0}, {name}: {w}x{h}); "
                "give ‹image_size› to resize and crop them to one size"
            )
    channels = max(one.shape[2] for one in decoded)
    images = np.empty((len(decoded), *decoded[0].shape[:2], channels), np.uint8)
    for i, one in enumerate(decoded):
        images[i] = one
    return images
