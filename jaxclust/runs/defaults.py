"""What a run is given where nobody says: photographs get an encoder's features, and DERC-R.

For the command line. What is chosen here is recorded as if it had been said, so that a run that
goes on elsewhere is the same run.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from jaxclust.core.errors import InputError
from jaxclust.core.types import DataSpec
from jaxclust.data.formats import formats, kind_by_name
from jaxclust.data.npz import shape_of_bytes
from jaxclust.methods import registry
from jaxclust.models.encoders import frozen
from jaxclust.runs.options import Options

METHOD, ENCODER = "derc_r", "efficientnet_lite2"
# Smaller pictures hold less than an encoder of photographs looks for.
_PHOTOGRAPH = 64
# Pictures whose size is looked at, and files that are tried for them.
_LOOKED_AT, _TRIED = 16, 1000
INSTALL = "pip install 'jaxclust[photos]'"


def photographs(dataset: str) -> bool:
    """Whether a set is a folder or an npz file of pictures of 64 pixels or more a side.

    Of a folder 16 pictures' headers are read; the median counts.
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
            except Exception:  # told of when images are read
                continue
    return sides


def _listed(place: Path) -> Any:
    return ((Path(folder), sorted(names)) for folder, _, names in os.walk(place))


def installed() -> bool:
    """Whether the extra `photos` is there."""
    try:
        frozen.weights_of(ENCODER)
    except InputError:
        return False
    return True


def method_of(dataset: str, encoder: str | None = None) -> str | None:
    """The method of a set for which none is given; None where one must be.

    Args:
        dataset: as `--dataset` has it.
        encoder: as `--encoder` has it, where it is given.

    Raises:
        InputError: photographs, and nothing is installed that makes features of them.
    """
    if not photographs(dataset):
        return None
    if installed() or encoder not in {None, "none"}:
        return METHOD
    raise InputError(
        f"photographs are clustered by a pre-trained encoder's features: {INSTALL}; or choose a "
        "--method and give --encoder none"
    )


def takes_features(method: str) -> bool:
    """Whether a method clusters vectors."""
    registered = registry.find(method)
    try:
        registered.build(registered.config(), DataSpec(1000, (8,), 2))
    except InputError:
        return False
    return True


def with_encoder(options: Options) -> Options:
    """The options with the encoder that nobody named, or without the one called "none"."""
    if options.encoder is not None:
        return replace(options, encoder=None) if options.encoder == "none" else options
    # An encoder is for one process.
    if options.image_size is not None or options.num_processes > 1:
        return options
    if not photographs(options.dataset) or not takes_features(options.method):
        return options
    if installed():
        return replace(options, encoder=ENCODER)
    if not options.quiet:
        print(
            f"note: {options.method} sees the pictures' own values; features of a pre-trained "
            f"encoder tell photographs apart far better: {INSTALL} (--encoder none silences this)",
            file=sys.stderr,
        )
    return options
