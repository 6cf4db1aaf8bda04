"""A folder of pictures as one array, in memory or read when needed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data.decoding import Files, Read, read_pictures
from jaxclust.data.names import Names

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


class Folder(NamedTuple):
    """The pictures of a folder, in the order of their paths."""

    read: Read  # their names are paths below the folder
    labels: np.ndarray | None  # int64 [n]
    class_names: tuple[str, ...]  # sub-folders, by label


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
    names = _find(root)
    root = root if root.is_dir() else root.parent
    read = read_pictures(Files(root, names), names, size, in_memory, str(root))
    if not labels_from_folders:
        return Folder(read, None, ())
    return Folder(read, *_folder_labels(root, read.ids))


def _find(root: Path) -> Names:
    """The pictures' paths below a folder, in order; of a file its name."""
    if root.is_file():
        return Names([root.name])
    if not root.is_dir():
        raise InputError(f"no such folder: {root}; give folder:PATH with pictures in it")
    pictures = (p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    found = Names(p.relative_to(root).as_posix() for p in pictures)
    if not found:
        raise InputError(
            f"no picture in {root}; files ending in {', '.join(sorted(_SUFFIXES))} are looked for"
        )
    return found.take(found.order_of_paths())


def _folder_labels(root: Path, ids: Names) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers of the first folders in which the pictures' paths differ, and their names."""
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
    names, labels = np.unique([path[shared] for path in folders], return_inverse=True)
    return labels.astype(np.int64), tuple(str(name) for name in names)
