"""Defaults for unset options: photographs get an encoder's features, and DERC-R.

For the command line. What is chosen here is recorded as if it had been given, so that a run
continued elsewhere is the same run.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median

from PIL import Image

from jaxclust.core.errors import InputError
from jaxclust.data.formats import formats, kind_by_name
from jaxclust.data.npz import shape_of_bytes
from jaxclust.data.searching import is_systems
from jaxclust.methods import registry
from jaxclust.models.encoders import frozen
from jaxclust.runs.options import Options

METHOD, ENCODER = "derc_r", "efficientnet_lite2"
# Smaller pictures lack the detail that an encoder of photographs looks for.
_PHOTOGRAPH = 64
# How many pictures to measure, and how many files to try for that.
_LOOKED_AT, _TRIED = 16, 1000
INSTALL = "pip install 'jaxclust[photos]'"


def photographs(dataset: str) -> bool:
    """Whether a set is a folder or an npz file of pictures of 64 pixels or more a side.

    For a folder, the headers of 16 pictures are read; the median counts.
    """
    kind, _, path = dataset.partition(":")
    place = Path(path).expanduser()
    if kind == "npz":
        shape = shape_of_bytes(place)
        return shape is not None and len(shape) >= 3 and min(shape[1:3]) >= _PHOTOGRAPH
    if kind != "folder":
        return False
    sides = _sides(place)
    return bool(sides) and median(sides) >= _PHOTOGRAPH


def _sides(place: Path) -> list[int]:
    """The shorter sides of the first pictures below a folder, or of the picture there."""
    sides: list[int] = []
    tried = 0
    files = [(place.parent, [place.name])] if place.is_file() else _listed(place)
    for folder, names in files:
        for name in names:
            if len(sides) == _LOOKED_AT or tried == _TRIED:
                return sides
            if kind_by_name(name) != "image":
                continue
            tried += 1
            try:
                with Image.open(folder / name, formats=formats(name)) as image:
                    sides.append(min(image.size))
            except Exception:  # reported when images are read
                continue
    return sides


def _listed(place: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folders that would be read, in a fixed order, and their files; links are followed."""
    seen: set[tuple[int, int]] = set()
    for folder, below, names in os.walk(place, followlinks=True):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in seen:  # a link around itself
            below.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        below[:] = sorted(name for name in below if not is_systems(name))
        yield Path(folder), sorted(names)


def installed() -> bool:
    """Whether the extra `photos` is installed."""
    try:
        frozen.weights_of(ENCODER)
    except InputError:
        return False
    return True


def method_of(
    dataset: str, encoder: str | None = None, *, resized: bool = False, several: bool = False
) -> str:
    """The default method for a data set: of features DERC-R, of images CCNN.

    Args:
        dataset: as given to `--dataset`.
        encoder: as given to `--encoder`, if at all.
        resized: whether an image size is given, which an encoder does not take.
        several: whether this process is one of several, where no encoder works.

    Raises:
        InputError: these are photographs, and no encoder for them is installed.
    """
    if dataset.startswith("features:") or encoder not in {None, "none"}:
        return METHOD
    if encoder == "none" or resized or several or not photographs(dataset):
        return Options.method
    if installed():
        return METHOD
    raise InputError(
        f"photographs are clustered with a pre-trained encoder's features: {INSTALL}; or give "
        f"--encoder none, and {Options.method} learns features of its own"
    )


def with_encoder(options: Options) -> Options:
    """The options with the default encoder if none was named, or without one for "none"."""
    if options.encoder is not None:
        return replace(options, encoder=None) if options.encoder == "none" else options
    # An encoder works in one process only.
    if options.image_size is not None or options.num_processes > 1:
        return options
    if not photographs(options.dataset) or not registry.find(options.method).takes(8):
        return options
    if installed():
        return replace(options, encoder=ENCODER)
    if not options.quiet:
        print(
            f"note: {options.method} sees the raw pixels; features of a pre-trained "
            f"encoder tell photographs apart far better: {INSTALL} (--encoder none silences this)",
            file=sys.stderr,
        )
    return options
