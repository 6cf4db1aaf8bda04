"""Features of images by a frozen encoder: block by block, cached, resumable after a kill."""

import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxclust.core import device
from jaxclust.core.reading import read_ahead
from jaxclust.data.image_set import ImageSet
from jaxclust.data.places import View
from jaxclust.models.encoders.frozen import Frozen
from jaxclust.runs import feature_cache
from jaxclust.runs.lock import Busy, locked
from jaxclust.runs.spilled import Spilled
from jaxclust.runs.writable import write_file
from jaxclust.training.parallel import Group

# Images per device at a time, on CPU and elsewhere.
_ON_CPU, _ELSEWHERE = 32, 256
# Bytes of files that are read, in seconds, to know them again.
_READ = 4 * 10**9
# Seconds of work that a kill may cost, and seconds between checks of another's lock.
_SAVED_EVERY, _ASKED_EVERY = 5.0, 1.0

# (images done, images in all, images per second)
Say = Callable[[int, int, float], None]


def telling(quiet: bool) -> Say:
    """A function that reports progress on stderr; on a terminal, it overwrites one line."""
    shown, last = sys.stderr.isatty(), [0.0]

    def say(done: int, n: int, rate: float) -> None:
        now = time.perf_counter()
        if quiet or (done < n and now - last[0] < (0.2 if shown else 10)):
            return
        last[0] = now
        text = f"encoded {done:,} of {n:,} images, {rate:,.0f} a second"
        end = "\r" if shown and done < n else "\n"
        print(text, end=end, file=sys.stderr, flush=True)

    return say


def view_of(encoder: Frozen) -> View:
    """How images are prepared for an encoder."""
    return View(encoder.side, encoder.resampling, encoder.whole, encoder.margin)


def mark_of(image_set: ImageSet, digest: str) -> str:
    """SHA-256 that identifies the features of these images by this encoder.

    Args:
        image_set: as the encoder sees it.
        digest: the encoder's.
    """
    images = image_set.images
    seen = getattr(images, "images", None)
    if seen is not None:  # an array's
        found = hashlib.sha256(f"{images.shape} {images.resampling} {images.whole}".encode())
        found.update(b"" if images.margin == 1 else f"{images.margin}".encode())
        found.update(replace(image_set, images=seen).fingerprint().encode())
    else:
        found = hashlib.sha256(images.fingerprint().encode())
    found.update(digest.encode())
    return found.hexdigest()


def _key(mark: str, images: Any) -> str:
    """Name of the folder for features: files of another content have another.

    Where reading them all would take long, a file's number and its time of change, which no program
    sets, stand for its content. Names, sizes and times of writing would not be enough: two folders
    out of archives may share them.
    """
    found = hashlib.sha256(mark.encode())
    # A tar's images, one after the other, are in one file.
    by_path = itertools.groupby(
        getattr(place, "path", None) for place in getattr(images, "places", ())
    )
    paths = [path for path, _ in by_path if isinstance(path, Path)]
    read = sum(path.stat().st_size for path in paths) <= _READ
    for path in paths:
        if read:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        else:
            asked = path.stat()
            found.update(f"{asked.st_ino} {asked.st_mtime_ns} {asked.st_ctime_ns} ".encode())
    return found.hexdigest()[:32]


def encoded(image_set: ImageSet, encoder: Frozen, say: Say, store: Path | None = None) -> ImageSet:
    """The image set with features in place of images.

    Args:
        image_set: its images as the encoder sees them.
        encoder: that makes the features.
        say: told after every block.
        store: where features are kept; None: in the cache, which stays below its limit.

    Returns:
        The set with float32 [n, width] as images; the pictures are kept to be shown.

    Raises:
        InputError: JAXCLUST_CACHE_GB is no number.
        RunError: an image can no longer be read.
        OSError: the store cannot be written.
    """
    mark, images = mark_of(image_set, encoder.digest), image_set.images
    folder = (store or feature_cache.features_dir()) / _key(mark, images)
    if store is None:
        needed = len(images) * encoder.width * np.dtype(np.float32).itemsize
        feature_cache.make_room(folder, needed, feature_cache.limit())
    features = embed(image_set.images, encoder, folder, say)
    about: dict[str, Any] = {"name": encoder.name, "source": encoder.source}
    view = list(view_of(encoder))
    # As recorded before there were margins.
    about |= {"digest": encoder.digest, "view": view[:-1] if view[-1] is None else view}
    return replace(image_set, images=features, pictures=image_set.images, encoder=about, mark=mark)


def embed(images: Any, encoder: Frozen, folder: Path, say: Say) -> np.ndarray:
    """Features of images, kept in a folder; continues from what is already there.

    Args:
        images: uint8 [n, side, side, 3], sliceable.
        encoder: that makes the features.
        folder: for these features only.
        say: told after every block.

    Returns:
        float32 [n, width], read from the folder's file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, shape = folder / "features.npy", (len(images), encoder.width)
    with _alone(folder):
        done = _done(folder, path, shape)
        if done < len(images):
            _go_on(images, encoder, folder, done, say)
        return np.load(path, mmap_mode="r")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; waits while another process encodes the same images."""
    with ExitStack() as held:
        for tries in itertools.count():
            try:
                held.enter_context(locked(folder))
                break
            except Busy:
                if not tries:
                    print("waiting: another process is encoding these images", file=sys.stderr)
                time.sleep(_ASKED_EVERY)
        yield


def _done(folder: Path, path: Path, shape: tuple[int, int]) -> int:
    """Number of rows already in the file; an unsuitable file is replaced by an empty one."""
    try:
        kept = np.load(path, mmap_mode="r")
        if kept.shape == shape and kept.dtype == np.float32:
            return int(json.loads((folder / "done.json").read_text("utf-8"))["rows"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    # First, so that a kill between the two leaves no number beside an empty file.
    _note(folder, 0)
    Spilled(path, shape, np.dtype(np.float32))
    return 0


def _note(folder: Path, rows: int) -> None:
    """Record how many rows are written."""
    write_file(folder / "done.json", json.dumps({"rows": rows}).encode())


def _go_on(images: Any, encoder: Frozen, folder: Path, done: int, say: Say) -> None:
    """Write the rows that are missing."""
    file = Spilled.existing(folder / "features.npy")
    n, started, saved = len(images), time.perf_counter(), time.perf_counter()
    first = done
    for start, rows in Encoding(encoder).blocks(images, done):
        file[start : start + len(rows)] = rows
        done = start + len(rows)
        now = time.perf_counter()
        if now - saved > _SAVED_EVERY or done == n:
            file.flush()
            _note(folder, done)
            saved = now
        say(done, n, (done - first) / (now - started))


class Encoding:
    """An encoder ready for any number of calls: its weights on every local device, one program.

    Args:
        encoder: that makes the features.
    """

    def __init__(self, encoder: Frozen) -> None:
        self._encoder, self._group = encoder, Group(tuple(jax.local_devices()))
        self._each = _ON_CPU if jax.default_backend() == "cpu" else _ELSEWHERE
        if encoder.on_host:
            return
        self._variables = self._group.replicate(encoder.variables)
        self._program = device.jit(
            lambda v, parts: encoder.apply(v, parts.reshape(-1, *parts.shape[2:]))
        )

    def blocks(self, images: Any, start: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, features float32 [b, width]) of images [n, side, side, 3] from `start`.

        Each local device takes its share of a block; meanwhile the next block is decoded.
        """
        if self._encoder.on_host:
            yield from _on_host(images, self._encoder, start)
            return
        group, each = self._group, self._each
        block = each * group.size

        def read(at: int) -> np.ndarray:
            # The last block is padded, so that one program serves all.
            rows = np.minimum(np.arange(at, at + block), len(images) - 1)
            found = images[rows]
            return found.reshape(group.size, each, *found.shape[1:])

        for at, now in read_ahead(read, range(start, len(images), block)):
            found = self._program(self._variables, group.spread(now))
            yield at, np.asarray(found)[: len(images) - at]

    def of(self, images: Any) -> np.ndarray:
        """Features of images in memory, not kept: [n, side, side, 3] -> float32 [n, width]."""
        return np.concatenate([rows for _, rows in self.blocks(images)])


def _on_host(images: Any, encoder: Frozen, start: int) -> Iterator[tuple[int, np.ndarray]]:
    """The same for an encoder that another library runs; the next block is decoded meanwhile."""
    places = range(start, len(images), _ON_CPU)
    for at, now in read_ahead(lambda at: images[at : at + _ON_CPU], places):
        yield at, np.asarray(encoder.apply(encoder.variables, now), np.float32)
