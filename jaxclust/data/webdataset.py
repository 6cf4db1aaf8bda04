"""Shards of samples in tars, as WebDataset lays them out: `KEY.jpg`, `KEY.cls`, `KEY.json`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data.archives import Index, index_of, members
from jaxclust.data.decoding import check_readable, read_images
from jaxclust.data.names import Names
from jaxclust.data.places import Place, Reading, Stretches
from jaxclust.data.resizing import with_channels
from jaxclust.data.tar_images import is_image

# Samples whose images are decoded and held at a time.
_AT_ONCE = 1024
_LABEL, _METADATA = "cls", "json"


class Samples(NamedTuple):
    """Some samples of a shard whose images could be read."""

    ids: list[str]  # their keys
    images: np.ndarray  # uint8 [n, side, side, channels]
    labels: np.ndarray  # int64 [n], -1 where not known
    metadata: list[str | None]  # JSON, as it is in the shard
    skipped: list[tuple[str, str]]  # the keys of images that could not be read, and why


@dataclass(frozen=True)
class Shard:
    """What a shard holds; nothing is decoded yet."""

    path: Path
    keys: Names  # of the samples with an image, in order
    places: Stretches  # of the images
    fields: dict[str, dict[str, Place]]  # of each key: where its label and metadata are
    skipped: list[tuple[str, str]]  # what is passed over, and why

    def __len__(self) -> int:
        return len(self.keys)


def key_and_field(name: str) -> tuple[str, str]:
    """A member's sample and what it is of it: the name is split at its first dot.

    >>> key_and_field("train/0001.seg.png")
    ('train/0001', 'seg.png')
    """
    path = PurePosixPath(name)
    key, _, field = path.name.partition(".")
    return str(path.with_name(key)) if key else name, field.lower()


def read_shard(path: Path) -> Shard:
    """Find a shard's samples.

    Of a key's images the one with the shortest field is its image (`jpg` before `seg.png`).

    Raises:
        InputError: no tar, a compressed or damaged one, or one without an image.
    """
    fields: dict[str, dict[str, Place]] = {}
    links: list[str] = []

    def index(archive: object) -> Iterator:
        for one in members(archive, path, links=links):  # type: ignore[arg-type]
            key, field = key_and_field(one.name)
            if field in {_LABEL, _METADATA}:
                fields.setdefault(key, {})[field] = one.place
            elif is_image(one.name):
                yield one

    found = index_of(path, index)
    if not found.names:
        raise InputError(f"no image in {path}")
    skipped = [(name, "a link, which is not followed in a tar") for name in links]
    return _by_key(path, found, fields, skipped)


def _by_key(
    path: Path,
    found: Index,
    fields: dict[str, dict[str, Place]],
    skipped: list[tuple[str, str]],
) -> Shard:
    """One image a key, in the order of the keys."""
    names, places = found.in_order()
    split = [(*key_and_field(name), row) for row, name in enumerate(names)]
    kept: dict[str, int] = {}
    for key, _, row in sorted(split, key=lambda one: (one[0], one[1].count("."), one[1])):
        if kept.setdefault(key, row) != row:
            skipped.append((names[row], f"another image of the sample is used: {names[kept[key]]}"))
    rows = np.asarray(list(kept.values()), np.int64)
    stretches = Stretches(places.path, places.offsets[rows], places.sizes[rows])
    return Shard(path, Names(kept), stretches, fields, skipped)


def samples(shard: Shard, reading: Reading, channels: int) -> Iterator[Samples]:
    """Yield the samples with their images, some hundred at a time, each decoded once.

    Wide greys of a kind share the range of the first block that has some.

    Args:
        shard: see :func:`read_shard`.
        reading: its size, and the rules for an encoder's view, if there is one.
        channels: of the images, 1 or 3.

    Raises:
        InputError: at the end, if more than half of them cannot be read.
    """
    rules = reading.rules
    readable, reasons = np.zeros(len(shard), bool), dict[int, str]()
    for start in range(0, len(shard), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(shard)))
        places, keys = shard.places.take(rows).read_by(rules), shard.keys.take(rows)
        margin = 1.0 if rules.margin is None else rules.margin
        read = read_images(places, keys, reading.size, None, str(shard.path), margin, in_part=True)
        readable[start + read.kept] = True
        reasons |= {start + list(keys).index(key): reason for key, reason in read.skipped}
        rules = rules._replace(ranges={**read.ranges, **rules.ranges})
        ids = list(read.ids)
        own = [shard.fields.get(key, {}) for key in ids]
        yield Samples(
            ids,
            with_channels(np.asarray(read.images), channels),
            np.asarray([_label(fields.get(_LABEL)) for fields in own], np.int64),
            [_text(fields.get(_METADATA)) for fields in own],
            read.skipped,
        )
    check_readable(readable, reasons, shard.keys, str(shard.path))


def _text(place: Place | None) -> str | None:
    """A member's text; bytes that are not UTF-8 are replaced."""
    return None if place is None else place.content().decode("utf-8", "replace")


def _label(place: Place | None) -> int:
    """A class number; -1 where there is none."""
    text = (_text(place) or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
