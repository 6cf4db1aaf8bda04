"""A run's images as files, at any place."""

from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from jaxclust.core.errors import InputError
from jaxclust.data.catalogue import ImageSet
from jaxclust.data.places import Place
from jaxclust.report.thumbnails import as_bytes, colours, pictures_of, value_range
from jaxclust.runs.finished import FinishedRun

How = Literal["link", "copy"]


def check_names(run: FinishedRun, folder: Path) -> None:
    """InputError if an image's name points outside the folder it is to be written to."""
    for name in map(PurePosixPath, run.ids):
        if name.is_absolute() or ".." in name.parts:
            raise InputError(f"the image named {name} would lie outside {folder}; rename it")


class Pictures:
    """Writes a set's images as files.

    Images in files of their own are linked or copied, those in an archive are copied, and those in
    an array are written as PNG.

    Args:
        image_set: the images.
        how: for files; a link is symbolic.
    """

    def __init__(self, image_set: ImageSet, how: How) -> None:
        self.image_set, self.how = image_set, how
        self.images = pictures_of(image_set)
        self.limits = value_range(self.images)

    def put(self, row: int, target: Path) -> Path:
        """Write one image; the path has `.png` added for an array's."""
        target.parent.mkdir(parents=True, exist_ok=True)
        places = self.image_set.places
        if places is None:
            target = target.with_name(f"{target.name}.png")
            _write_png(self.images[np.array([row])][0], self.limits, target)
            return target
        found = places[row]
        if isinstance(found, Place) and found.size is None and self.how == "link":
            target.symlink_to(found.path.absolute())
        else:
            target.write_bytes(found.content())
        return target


def _write_png(image: np.ndarray, limits: tuple[float, float], target: Path) -> None:
    """An image [h, w, c] as PNG, black and white at these limits."""
    image = as_bytes(image, *limits)
    image = colours(image)
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(target)
