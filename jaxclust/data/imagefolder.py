"""A folder of pictures as one array, in memory or read when needed."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from jaxclust.data.transforms import resize_and_crop
from jaxclust.errors import InputError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
# Pictures decoded ahead of whoever reads them.
_AT_ONCE = 256
_GREY = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"}


class Folder(NamedTuple):
    """The pictures of a folder, in the order of their paths."""

    images: "np.ndarray | Streamed"  # uint8 [n, h, w, c]
    labels: np.ndarray | None  # int64 [n]
    ids: tuple[str, ...]  # paths below the folder
    skipped: list[tuple[str, str]]  # path and reason of each unreadable file


class Streamed:
    """Pictures that are decoded when asked for; as an array uint8 [n, h, w, c] to read from.

    Args:
        root: the folder.
        ids: paths below it.
        size: side of the pictures, resized and cropped.
        channels: 1 or 3.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, root: Path, ids: Sequence[str], size: int, channels: int) -> None:
        self.root, self.ids = root, tuple(ids)
        self.size, self.channels = size, channels

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

        def decode(place: int) -> None:
            # A grey picture among coloured ones has three equal channels.
            out[place] = _read(self.root / self.ids[chosen[place]], self.size)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(decode, range(len(chosen))):
                pass
        return out

    def subset(self, rows: np.ndarray) -> "Streamed":
        """The pictures of the given rows, still undecoded."""
        return Streamed(self.root, [self.ids[i] for i in rows], self.size, self.channels)

    def fingerprint(self) -> str:
        """SHA-256 of the pictures' paths, file sizes and size here."""
        digest = hashlib.sha256(f"{self.shape}".encode())
        for name in self.ids:
            size = (self.root / name).stat().st_size
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def read_folder(
    root: Path, size: int | None, labels_from_folders: bool, in_memory: int | None = None
) -> Folder:
    """Every picture below `root`, in the order of its path.

    A set of grey pictures only has one channel, any other three. Unreadable files
    are skipped and named; more than half of them is an error.

    Args:
        root: a folder, whose sub-folders are searched too, or one picture.
        size: resize the shorter side to this and cut out the central square; None
            needs pictures of one size.
        labels_from_folders: number the sub-folders by name as labels; one that is
            around all pictures is passed over.
        in_memory: bytes of decoded pictures that may be held; more of them are read once
            to find the unreadable ones, and again whenever they are needed. None: all.

    Raises:
        InputError: no folder, no readable picture, mixed sizes, more than half
            unreadable, or a picture so large that decoding it may exhaust memory.
    """
    files = _find(root)
    root = root if root.is_dir() else root.parent
    names = [file.relative_to(root).as_posix() for file in files]
    held = None if in_memory is None or size is None else in_memory // (3 * size**2)
    streamed = held is not None and len(files) > held
    pictures: list[np.ndarray] = []
    ids: list[str] = []
    skipped: list[tuple[str, str]] = []
    channels = 1
    for name, found in zip(names, _decoded(files, size), strict=True):
        if isinstance(found, str):
            skipped.append((name, found.replace(str(root / name), name)))
            continue
        ids.append(name)
        channels = max(channels, found.shape[2])
        if not streamed:
            pictures.append(found)
    if not ids:
        raise InputError(
            f"none of the {len(files)} pictures in {root} can be read "
            f"({skipped[0][0]}: {skipped[0][1]})"
        )
    if len(skipped) > len(ids):
        raise InputError(
            f"{len(skipped)} of the {len(files)} pictures in {root} cannot be read "
            f"({skipped[0][0]}: {skipped[0][1]}, …); more than half is taken for a wrong folder"
        )
    labels = _folder_labels(root, ids) if labels_from_folders else None
    if streamed:
        assert size is not None
        return Folder(Streamed(root, ids, size, channels), labels, tuple(ids), skipped)
    return Folder(_stack(pictures, ids, root), labels, tuple(ids), skipped)


def _decoded(files: Sequence[Path], size: int | None) -> Iterable[np.ndarray | str]:
    """Each picture, or why it cannot be read; a few of them at a time."""

    def one(file: Path) -> np.ndarray | str:
        try:
            return _read(file, size)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InputError(
                f"{file} claims more pixels than is safe to decode; remove it or shrink it"
            ) from error
        except Exception as error:  # Pillow raises many kinds for damaged files
            return " ".join(str(error).split()) or type(error).__name__

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(files), _AT_ONCE):
            # Filters are the whole process's, so that they are set around all workers.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Pillow only warns up to twice its limit, where it starts to refuse.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                found = list(pool.map(one, files[start : start + _AT_ONCE]))
            yield from found


def _find(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise InputError(f"no such folder: {root}; give folder:PATH with pictures in it")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not files:
        raise InputError(
            f"no picture in {root}; files ending in {', '.join(sorted(_SUFFIXES))} are looked for"
        )
    return files


def _read(file: Path, size: int | None) -> np.ndarray:
    """A picture uint8 [h, w, 1 or 3], turned upright as its EXIF data says."""
    with Image.open(file) as opened:
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
        picture = resize_and_crop(picture, size)
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Wide grey values scaled to 0-255; Pillow's own conversion would clip them."""
    values = np.asarray(picture, np.float64)
    top = 65535.0 if picture.mode != "F" and values.max() > 255 else 255.0
    if picture.mode == "F" and values.max() <= 1:
        top = 1.0
    return Image.fromarray(np.clip(np.round(values * (255 / top)), 0, 255).astype(np.uint8))


def _stack(pictures: list[np.ndarray], ids: list[str], root: Path) -> np.ndarray:
    for picture, name in zip(pictures, ids, strict=True):
        if picture.shape[:2] != pictures[0].shape[:2]:
            (h0, w0), (h, w) = pictures[0].shape[:2], picture.shape[:2]
            raise InputError(
                f"the pictures in {root} differ in size ({ids[0]}: {w0}x{h0}, {name}: {w}x{h}); "
                "give --image-size to resize and crop them to one"
            )
    channels = max(picture.shape[2] for picture in pictures)
    images = np.empty((len(pictures), *pictures[0].shape[:2], channels), np.uint8)
    for i, picture in enumerate(pictures):
        images[i] = picture
    return images


def _folder_labels(root: Path, ids: list[str]) -> np.ndarray:
    """Numbers of the first folders in which the pictures' paths differ."""
    folders = [name.split("/")[:-1] for name in ids]
    # A folder around all the others, as archives have it, tells nothing.
    shared = 0
    while all(len(path) > shared for path in folders) and len({p[shared] for p in folders}) == 1:
        shared += 1
    loose = [name for name, path in zip(ids, folders, strict=True) if len(path) <= shared]
    if loose:
        raise InputError(
            f"--labels-from-folders: {loose[0]} lies in no sub-folder of its own in {root}; every "
            "picture needs one, and there must be two or more"
        )
    names = np.asarray([path[shared] for path in folders])
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
