"""Pictures from files, or from places in archives: decoded at once or when needed."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageOps

from jaxclust.core import processes
from jaxclust.core.errors import InputError
from jaxclust.data.names import Names
from jaxclust.data.resizing import resize_and_crop, with_channels

# Pictures decoded ahead of whoever reads them.
_AT_ONCE = 256
# Pictures of a block that a worker decodes in one go, at most.
_A_TASK = 64
_GREY = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"}


class Place(NamedTuple):
    """Where a picture's bytes lie: a file, or a stretch of one."""

    path: Path
    offset: int = 0
    size: int | None = None  # bytes; None: the whole file

    def file(self) -> Path | io.BytesIO:
        """What Pillow can open."""
        if self.size is None:
            return self.path
        with self.path.open("rb") as archive:
            archive.seek(self.offset)
            return io.BytesIO(archive.read(self.size))

    def content(self) -> bytes:
        """The picture's file as it is."""
        found = self.file()
        return found.read_bytes() if isinstance(found, Path) else found.getvalue()

    def mark(self) -> str:
        """Tells this place's content from others, without reading it."""
        size = self.path.stat().st_size if self.size is None else self.size
        return f"{self.offset} {size}"


class Files:
    """Files below a folder, as places; nothing is held but their names."""

    def __init__(self, root: Path, names: Names) -> None:
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> Place:
        return Place(self.root / self.names[i])

    def __iter__(self) -> Iterator[Place]:
        return (self[i] for i in range(len(self)))

    def take(self, rows: np.ndarray) -> "Files":
        """Those of the given rows."""
        return Files(self.root, self.names.take(rows))


class Stretches:
    """Stretches of one file, as places; 16 bytes each."""

    def __init__(self, path: Path, offsets: np.ndarray, sizes: np.ndarray) -> None:
        self.path, self.offsets, self.sizes = path, offsets, sizes

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, i: int) -> Place:
        return Place(self.path, int(self.offsets[i]), int(self.sizes[i]))

    def __iter__(self) -> Iterator[Place]:
        return (self[i] for i in range(len(self)))

    def take(self, rows: np.ndarray) -> "Stretches":
        """Those of the given rows."""
        return Stretches(self.path, self.offsets[rows], self.sizes[rows])


class Places(Protocol):
    """Where many pictures lie: files, stretches of one, records of a prepared set."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Any: ...  # a Place or what stands in one's stead

    def __iter__(self) -> Iterator[Any]: ...

    def take(self, rows: np.ndarray) -> "Places":
        """Those of the given rows."""
        ...


class Streamed:
    """Pictures that are decoded when asked for; as an array uint8 [n, h, w, c] to read from.

    Args:
        places: where they lie.
        ids: their names.
        size: side of the pictures, resized and cropped.
        channels: 1 or 3, to which those of others are brought.
        margin: see :func:`resizing.resize_and_crop`.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        places: Places,
        ids: Names,
        size: int,
        channels: int,
        margin: float = 1.0,
    ) -> None:
        self.places, self.ids = places, ids
        self.size, self.channels, self.margin = size, channels, margin

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As an array's."""
        return (len(self.ids), self.size, self.size, self.channels)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Decode the pictures of a slice or of rows int [b], several at a time."""
        chosen = range(len(self))[rows] if isinstance(rows, slice) else rows
        out = np.empty((len(chosen), *self.shape[1:]), np.uint8)

        # A task a picture would take more memory than a block of small ones.
        each = max(1, min(_A_TASK, len(chosen) // (8 * (os.cpu_count() or 1))))

        def decode(start: int) -> None:
            for i in range(start, min(start + each, len(chosen))):
                picture = _read(self.places[chosen[i]], self.size, self.margin)
                out[i] = with_channels(picture[None], self.channels)[0]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode, range(0, len(chosen), each)):
                pass
        return out

    def subset(self, rows: np.ndarray) -> "Streamed":
        """The pictures of the given rows, still undecoded."""
        ids = self.ids.take(rows)
        return Streamed(self.places.take(rows), ids, self.size, self.channels, self.margin)

    def seen_in(self, channels: int) -> "Streamed":
        """The same pictures with 1 or 3 channels."""
        return Streamed(self.places, self.ids, self.size, channels, self.margin)

    def fingerprint(self) -> str:
        """SHA-256 of the pictures' names, sizes of their bytes and size here."""
        digest = hashlib.sha256(f"{self.shape} {self.margin}".encode())
        for name, place in zip(self.ids, self.places, strict=True):
            digest.update(f"{name}\0{place.mark()}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class Read(NamedTuple):
    """Pictures of one size."""

    images: np.ndarray | Streamed  # uint8 [n, h, w, c]
    kept: np.ndarray  # int [n]: which of the places they are
    places: Places  # those
    ids: Names
    skipped: list[tuple[str, str]]  # name and reason of each that cannot be read


def read_pictures(
    places: Places,
    names: Names,
    size: int | None,
    in_memory: int | None,
    where: str,
    margin: float = 1.0,
) -> Read:
    """Decode pictures; those that cannot be are skipped and named.

    Grey pictures only have one channel, any others three.

    Args:
        places: where they lie.
        names: one each.
        size: see :func:`resizing.resize_and_crop`; None needs pictures of one size.
        in_memory: bytes of decoded pictures that may be held; more of them are read once
            to find those that cannot be, and again whenever they are needed. None: all.
        where: what they are in, for messages.
        margin: see :func:`resizing.resize_and_crop`.

    Raises:
        InputError: no readable picture, mixed sizes, more than half unreadable, or a
            picture so large that decoding it may exhaust memory.
    """
    held = None if in_memory is None or size is None else in_memory // (3 * size**2)
    streamed = held is not None and len(places) > held
    pictures: list[np.ndarray] = []
    readable, channels = np.zeros(len(places), bool), 1
    looked_at: Sequence[int] = range(len(places))
    if streamed:
        readable, channels = _looked_through(places, size, margin)
        looked_at = np.flatnonzero(~readable).tolist()
    skipped: list[tuple[str, str]] = []
    for i, found in zip(looked_at, _decoded(places, names, looked_at, size, margin), strict=True):
        if isinstance(found, str):
            skipped.append((names[i], found.replace(str(places[i].path), names[i])))
            continue
        readable[i] = True
        channels = max(channels, found.shape[2])
        if not streamed:
            pictures.append(found)
    kept = np.flatnonzero(readable)
    if not kept.size:
        raise InputError(
            f"none of the {len(places)} pictures in {where} can be read "
            f"({skipped[0][0]}: {skipped[0][1]})"
        )
    if len(skipped) > len(kept):
        raise InputError(
            f"{len(skipped)} of the {len(places)} pictures in {where} cannot be read "
            f"({skipped[0][0]}: {skipped[0][1]}, …); more than half is taken for a wrong folder"
        )
    ids, found_at = names, places
    if skipped:
        ids, found_at = names.take(kept), places.take(kept)
    if streamed:
        assert size is not None
        images = Streamed(found_at, ids, size, channels, margin)
    else:
        images = _stack(pictures, ids, where)
    return Read(images, kept, found_at, ids, skipped)


def _looked_through(places: Places, size: int | None, margin: float) -> tuple[np.ndarray, int]:
    """Which pictures can be read, bool [n], and the most channels that any has.

    Of several processes each looks through its part of them and they tell each other.
    """
    mine = range(len(places))[processes.share_of_process()]
    channels = np.zeros(len(places), np.uint8)

    def look(i: int) -> None:
        with suppress(Exception):  # what it is, `_decoded` finds out
            channels[i] = _read(places[i], size, margin).shape[2]

    for _ in _by_workers(look, mine):
        pass
    channels = processes.largest_of_processes(channels)
    return channels > 0, int(channels.max(initial=1))


def _by_workers(function: Callable[[int], Any], rows: Sequence[int]) -> Iterator[Any]:
    """`function` of each row, a few of them at a time; what claims too many pixels raises."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(rows), _AT_ONCE):
            # Filters are the whole process's, so that they are set around all workers.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Pillow only warns up to twice its limit, where it starts to refuse.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                found = list(pool.map(function, rows[start : start + _AT_ONCE]))
            yield from found


def _decoded(
    places: Places, names: Sequence[str], rows: Sequence[int], size: int | None, margin: float
) -> Iterable[np.ndarray | str]:
    """The picture of each row, or why it cannot be read."""

    def one(i: int) -> np.ndarray | str:
        try:
            return _read(places[i], size, margin)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InputError(
                f"{names[i]} claims more pixels than is safe to decode; remove it or shrink it"
            ) from error
        except Exception as error:  # Pillow raises many kinds for damaged files
            return " ".join(str(error).split()) or type(error).__name__

    return _by_workers(one, rows)


def _read(place: Any, size: int | None, margin: float) -> np.ndarray:
    """A picture uint8 [h, w, 1 or 3], turned upright as its EXIF data says."""
    with Image.open(place.file()) as opened:
        opened.load()
        picture = ImageOps.exif_transpose(opened)
    grey = picture.mode in _GREY
    if picture.mode in {"I", "F"} or picture.mode.startswith("I;16"):
        picture = _to_eight_bits(picture)
    elif "transparency" in picture.info or picture.mode in {"RGBA", "LA", "PA"}:
        # Transparent places look white, as they do in a viewer.
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("L" if grey else "RGB")
    if size is not None:
        picture = resize_and_crop(picture, size, margin)
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Wide grey values scaled to 0-255; Pillow's own conversion would clip them."""
    values = np.asarray(picture, np.float64)
    top = 65535.0 if picture.mode != "F" and values.max() > 255 else 255.0
    if picture.mode == "F" and values.max() <= 1:
        top = 1.0
    return Image.fromarray(np.clip(np.round(values * (255 / top)), 0, 255).astype(np.uint8))


def _stack(pictures: list[np.ndarray], ids: Names, where: str) -> np.ndarray:
    for picture, name in zip(pictures, ids, strict=True):
        if picture.shape[:2] != pictures[0].shape[:2]:
            (h0, w0), (h, w) = pictures[0].shape[:2], picture.shape[:2]
            raise InputError(
                f"the pictures in {where} differ in size ({ids[0]}: {w0}x{h0}, {name}: {w}x{h}); "
                "give --image-size to resize and crop them to one"
            )
    channels = max(picture.shape[2] for picture in pictures)
    images = np.empty((len(pictures), *pictures[0].shape[:2], channels), np.uint8)
    for i, picture in enumerate(pictures):
        images[i] = picture
    return images
