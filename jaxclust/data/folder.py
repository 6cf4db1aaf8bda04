"""A folder of images as one array, in memory or read when needed."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data import searching
from jaxclust.data.decoding import Read, read_images
from jaxclust.data.names import Names
from jaxclust.data.places import USUAL, Files, Rules


class Folder(NamedTuple):
    """The images of a folder, in the order of their paths."""

    read: Read  # their names are paths below the folder
    labels: np.ndarray | None  # int64 [n]
    class_names: tuple[str, ...]  # sub-folders, by label
    passed_over: list[tuple[str, str]]  # path and reason of what was not even tried
    others: str = ""  # what else is there, in words


def read_folder(
    root: Path,
    size: int | None,
    labels_from_folders: bool,
    in_memory: int | None = None,
    rules: Rules = USUAL,
) -> Folder:
    """Every image below `root`, in the order of its path.

    If all images are grey, they have one channel, otherwise three. Unreadable files are skipped and
    named; if they are more than half, that is an error.

    Args:
        root: a folder, whose sub-folders are searched too, or one image.
        size: resize the shorter side to this and cut out the central square; None
            needs images of one size.
        labels_from_folders: use the sub-folders, numbered by name, as labels; one that contains all
            images is ignored.
        in_memory: bytes of decoded images that may be held; larger sets are read once to find the
            unreadable ones, and again whenever they are needed. None: all.
        rules: how images are read; see :class:`places.Rules`.

    Raises:
        InputError: no folder, no readable image, mixed sizes, or more than half unreadable.
    """
    found = _found(root)
    root = root if root.is_dir() else root.parent
    places = Files(root, found.images).read_by(rules)
    read = read_images(places, found.images, size, in_memory, str(root))
    labels, names = labels_of_folders(root, read.ids) if labels_from_folders else (None, ())
    return Folder(read, labels, names, found.passed_over, found.told_others())


def _found(root: Path) -> searching.Listing:
    """The images' paths below a folder, in order; for a file, its name."""
    if root.is_file():
        return searching.Listing(Names([root.name]))
    if not root.is_dir():
        raise InputError(f"no such folder: {root}; give folder:PATH with images in it")
    found = searching.image_files(root)
    if not found.images:
        raise searching.none_found(root, found, "folder")
    return found


def labels_of_folders(root: Path, ids: Names) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels that number the first folders in which the images' paths differ, and their names."""
    folders = [name.split("/")[:-1] for name in ids]
    # A folder around all the others, as archives often have, says nothing.
    shared = 0
    while all(len(path) > shared for path in folders) and len({p[shared] for p in folders}) == 1:
        shared += 1
    loose = [name for name, path in zip(ids, folders, strict=True) if len(path) <= shared]
    if loose:
        raise InputError(
            f"‹labels_from_folders›: {loose[0]} is not in a class sub-folder of {root}; every "
            "image must be in one, and there must be two or more"
        )
    names, labels = np.unique([path[shared] for path in folders], return_inverse=True)
    return labels.astype(np.int64), tuple(str(name) for name in names)
