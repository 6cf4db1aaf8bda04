"""The images of any tar, never unpacked."""

import tarfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.data.archives import Index, Named, index_of, members
from jaxclust.data.decoding import read_images
from jaxclust.data.folder import Folder, labels_of_folders
from jaxclust.data.formats import START, kind_by_name
from jaxclust.data.places import Reading
from jaxclust.data.searching import Listing, is_systems, none_found, note


def read_tar(path: Path, reading: Reading, labels_from_folders: bool = False) -> Folder:
    """The images of an uncompressed tar: those that its folder would have, once unpacked.

    Links are skipped and named.

    Args:
        path: the tar.
        reading: how to read the images.
        labels_from_folders: see :func:`folder.read_folder`.

    Raises:
        InputError: no such tar, no image in it, or images that cannot be read.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}; give tar:PATH with images in it")
    listing = Listing()
    found = _listed(path, listing)
    if not found.names:
        raise none_found(path, listing, "tar")
    names, places = found.in_order()
    # Unpacking a member writes over an earlier one of its name, as `tar --append` adds them.
    last = np.flatnonzero([*(one != then for one, then in pairwise(names)), True])
    if len(last) < len(names):
        for i in np.setdiff1d(np.arange(len(names)), last).tolist():
            listing.passed_over.append((names[i], "a later member of the tar has the same name"))
        names, places = names.take(last), places.take(last)
    places = places.read_by(reading.rules)
    read = read_images(places, names, reading.size, reading.in_memory, str(path))
    labels, classes = labels_of_folders(path, read.ids) if labels_from_folders else (None, ())
    return Folder(read, labels, classes, listing.passed_over, listing.told_others())


def _listed(path: Path, listing: Listing) -> Index:
    """A tar's images; what else it holds is added to the listing."""
    links: list[str] = []

    def index(archive: tarfile.TarFile) -> Iterable[Named]:
        with path.open("rb") as file:
            for one in members(archive, path, links=links):
                if _is_kept_by_system(one.name):
                    continue

                def start(offset: int = one.place.offset, size: int = one.place.size or 0) -> bytes:
                    file.seek(offset)
                    return file.read(min(START, size))

                known = len(listing.images)
                note(listing, one.name, start)
                if len(listing.images) > known:
                    yield one

    found = index_of(path, index)
    for link in links:
        if not _is_kept_by_system(link) and kind_by_name(link) not in {None, "none"}:
            listing.passed_over.append((link, "a link, which is not followed in a tar"))
    return found


def is_image(name: str) -> bool:
    """Whether a member's name is that of an image; those of systems are not."""
    base = PurePosixPath(name).name
    kept = _is_kept_by_system(name) or base.startswith("._")
    return not kept and kind_by_name(name) == "image"


def _is_kept_by_system(name: str) -> bool:
    return any(is_systems(folder) for folder in PurePosixPath(name).parts[:-1])
