"""A run's pictures laid out in a folder for each cluster."""

from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from jaxclust.data.pictures import Place
from jaxclust.data.sources import ImageSet
from jaxclust.errors import InputError
from jaxclust.report.finished import FinishedRun
from jaxclust.report.thumbnails import as_bytes

How = Literal["link", "copy"]


def check_empty(folder: Path) -> None:
    """InputError for a folder that holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; give --to another folder")


def lay_out(run: FinishedRun, image_set: ImageSet, folder: Path, how: How) -> int:
    """Put every picture under `folder/cluster-C/`, by its name in the run.

    Pictures that are files of their own are linked or copied, those in an archive copied;
    those of an array are written as PNG.

    Args:
        run: the finished run.
        image_set: its images.
        folder: made where it is missing; must be empty.
        how: of files; a link is symbolic.

    Returns:
        How many pictures there are.

    Raises:
        InputError: the folder is not empty, or a picture's name would leave it.
    """
    check_empty(folder)
    digits = len(str(run.n_clusters - 1))
    for row, cluster in enumerate(run.clusters):
        name = PurePosixPath(run.ids[row])
        if name.is_absolute() or ".." in name.parts:
            raise InputError(f"the picture named {name} would lie outside {folder}; rename it")
        target = folder / f"cluster-{cluster:0{digits}d}" / name
        if image_set.places is None:
            target = target.with_name(f"{target.name}.png")
        target.parent.mkdir(parents=True, exist_ok=True)
        if image_set.places is None:
            _save(image_set.images[np.array([row])][0], image_set, target)
            continue
        found = image_set.places[row]
        if isinstance(found, Place) and found.size is None and how == "link":
            target.symlink_to(found.path.absolute())
        else:
            target.write_bytes(found.content())
    return len(run.ids)


def _save(image: np.ndarray, image_set: ImageSet, target: Path) -> None:
    if image.dtype != np.uint8:
        low, high = float(image_set.images.min()), float(image_set.images.max())
        image = as_bytes(image, low, high)
    Image.fromarray(image[..., 0] if image.shape[2] != 3 else image).save(target)
