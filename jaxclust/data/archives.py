"""Images from tar files, including ImageNet's and Places' official ones, never unpacked."""

import re
import tarfile
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.data.decoding import Read, read_images
from jaxclust.data.names import Names
from jaxclust.data.places import Place, Places, Reading, Stretches

_COMPRESSED = {".gz", ".tgz", ".bz2", ".xz", ".zst"}
# Images are resized to this multiple of the square that is cut out: 256 for 224.
_MARGIN = 8 / 7
_SIDE = 224

IMAGENET10 = (
    "n02056570", "n02085936", "n02128757", "n02690373", "n02692877",
    "n03095699", "n04254680", "n04285008", "n04467665", "n07747607",
)  # fmt: skip
IMAGENET_DOG = (
    "n02085936", "n02086646", "n02088238", "n02091467", "n02097130",
    "n02099601", "n02101388", "n02101556", "n02102177", "n02105056",
    "n02105412", "n02105855", "n02107142", "n02110958", "n02112137",
)  # fmt: skip


class Named(NamedTuple):
    """An image in an archive."""

    name: str
    place: Place


class Index:
    """Names and places of an archive's images, in little memory."""

    def __init__(self, path: Path, found: Iterable[Named]) -> None:
        self.path, self.names = path, Names()
        offsets, sizes = array("q"), array("q")
        for name, place in found:
            self.names.append(name)
            offsets.append(place.offset)
            sizes.append(place.size or 0)
        self.offsets = np.asarray(offsets, np.int64)
        self.sizes = np.asarray(sizes, np.int64)

    def in_order(self) -> tuple[Names, Stretches]:
        """The sorted names, and their places."""
        order = self.names.order()
        places = Stretches(self.path, self.offsets[order], self.sizes[order])
        return self.names.take(order), places


class Labelled(NamedTuple):
    """Images and the classes of those that can be read."""

    read: Read
    labels: np.ndarray  # int64 [n]


def read_labelled(
    places: Places, names: Names, labels: np.ndarray, reading: Reading, where: str
) -> Labelled:
    """Read images as is usual for ImageNet: 224 pixels of 256 unless another size is given.

    Args:
        places: of the images.
        names: one per image.
        labels: int64 [n].
        reading: how to read them.
        where: what they are in, for messages.

    Raises:
        InputError: see :func:`decoding.read_images`.
    """
    size = _SIDE if reading.size is None else reading.size
    places = places.read_by(reading.rules)
    read = read_images(places, names, size, reading.in_memory, where, _MARGIN)
    return Labelled(read, labels[read.kept])


def members(
    archive: tarfile.TarFile, path: Path, start: int = 0, links: list[str] | None = None
) -> Iterable[Named]:
    """The files in an open tar, whose content begins `start` bytes into `path`.

    Args:
        archive: the tar.
        path: the file it is in.
        start: its offset in that file.
        links: collects the names of links, which are skipped; None: links are refused.

    Raises:
        InputError: a member that would be unpacked outside the folder.
    """
    remembered: Any = archive
    while (member := archive.next()) is not None:
        # It would keep its data on every member, kilobytes each.
        remembered.members = []
        name = PurePosixPath(member.name)
        linked = member.islnk() or member.issym()
        if linked and links is not None:
            links.append(str(name))
            continue
        if name.is_absolute() or ".." in name.parts or linked:
            raise InputError(
                f"{path} holds '{member.name}', which points outside its folder; such an archive "
                "is not read: create it again, or get the official one again"
            )
        if member.isfile():
            yield Named(str(name), Place(path, start + member.offset_data, member.size))


def index_of(path: Path, index: Callable[[tarfile.TarFile], Iterable[Named]]) -> Index:
    """What `index` finds in a tar.

    Raises:
        InputError: a compressed or damaged tar, or one that is cut off.
    """
    if path.suffix.lower() in _COMPRESSED:
        raise InputError(f"{path} is compressed; decompress it first to read it in place")
    try:
        with tarfile.open(path, "r:") as archive:
            found = Index(path, index(archive))
            _check_end(archive)
            return found
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as an uncompressed tar ({first_line(error)}); get it again"
        ) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """TarError unless zeros follow the last member, which the library takes for granted."""
    file: Any = archive.fileobj
    file.seek(archive.offset)
    following = file.read(tarfile.BLOCKSIZE)
    if following != bytes(tarfile.BLOCKSIZE):
        what = "a damaged member" if following else "no end mark"
        raise tarfile.ReadError(f"{what} after {archive.offset} bytes")


def _labelled(found: Index, label: Callable[[str], int], path: Path, reading: Reading) -> Labelled:
    """Read images in the order of their names and look up their classes."""
    if not found.names:
        raise InputError(f"{path} holds none of the images wanted; it is not the official one")
    names, places = found.in_order()
    labels = np.fromiter(map(label, names), np.int64, len(names))
    return read_labelled(places, names, labels, reading, str(path))


def _list_of_imagenet(file: str) -> list[str]:
    """The words of a list that comes with tensorflow-datasets."""
    import tensorflow_datasets as tfds

    lists = Path(str(tfds.__file__)).parent / "datasets" / "imagenet2012"
    try:
        return (lists / file).read_text().split()
    except OSError as error:
        raise InputError(
            f"this version of tensorflow-datasets has no list of ImageNet's classes ({error}); "
            "install another version"
        ) from error


def synset_order() -> list[str]:
    """ImageNet's 1000 synsets, as tensorflow-datasets numbers them."""
    return _list_of_imagenet("labels.txt")


def imagenet_validation(path: Path, reading: Reading) -> Labelled:
    """ILSVRC2012_img_val.tar; classes as tensorflow-datasets lists them."""
    order, synsets = synset_order(), _list_of_imagenet("validation_labels.txt")
    number = {synset: i for i, synset in enumerate(order)}
    pattern = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG$")

    def index(archive: tarfile.TarFile) -> Iterable[Named]:
        return (one for one in members(archive, path) if pattern.search(one.name))

    def label(name: str) -> int:
        found: Any = pattern.search(name)
        return number[synsets[int(found[1]) - 1]]

    return _labelled(index_of(path, index), label, path, reading)


def imagenet_classes(synsets: Sequence[str], path: Path, reading: Reading) -> Labelled:
    """Some classes of ILSVRC2012_img_train.tar, which holds one tar per class."""

    def index(archive: tarfile.TarFile) -> Iterable[Named]:
        for outer in archive:
            if outer.name.removesuffix(".tar") in synsets:
                content: Any = archive.extractfile(outer)
                with tarfile.open(fileobj=content, mode="r:") as inner:
                    yield from members(inner, path, outer.offset_data)

    found = index_of(path, index)
    there = {name.split("_")[0] for name in found.names}
    if missing := [synset for synset in synsets if synset not in there]:
        raise InputError(
            f"{path} lacks {len(missing)} of {len(synsets)} classes ({missing[0]}, …); get the "
            "whole archive"
        )
    number = {synset: i for i, synset in enumerate(synsets)}
    return _labelled(found, lambda name: number[name.split("_")[0]], path, reading)


def _list(path: Path) -> Mapping[str, int]:
    """A file of lines 'image class'."""
    classes = {}
    try:
        for line in path.read_text().splitlines():
            name, label = line.split()
            classes[PurePosixPath(name).name] = int(label)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as lines of image and class ({first_line(error)}); it comes "
            "with Places365's filelist_places365-standard.tar"
        ) from error
    return classes


def places_validation(path: Path, reading: Reading) -> Labelled:
    """val_256.tar of Places365, with places365_val.txt beside it."""
    classes = _list(path.parent / "places365_val.txt")

    def index(archive: tarfile.TarFile) -> Iterable[Named]:
        return (one for one in members(archive, path) if PurePosixPath(one.name).name in classes)

    return _labelled(
        index_of(path, index),
        lambda name: classes[PurePosixPath(name).name],
        path,
        reading,
    )


def places_training(path: Path, reading: Reading) -> Labelled:
    """train_256_places365standard.tar; an image's folder is its class."""

    def index(archive: tarfile.TarFile) -> Iterable[Named]:
        return (one for one in members(archive, path) if one.name.endswith(".jpg"))

    found = index_of(path, index)
    folders = sorted({str(PurePosixPath(name).parent) for name in found.names})
    number = {folder: i for i, folder in enumerate(folders)}
    return _labelled(found, lambda name: number[str(PurePosixPath(name).parent)], path, reading)
