"""A run's images laid out in one folder per cluster."""

from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image

from jaxclust.core.errors import InputError
from jaxclust.data.catalogue import ImageSet
from jaxclust.data.places import Place
from jaxclust.report.thumbnails import as_bytes, value_range
from jaxclust.runs.finished import FinishedRun

How = Literal["link", "copy"]


def check_empty(folder: Path) -> None:
    """InputError for a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; give another folder with --to")


def lay_out(run: FinishedRun, image_set: ImageSet, folder: Path, how: How) -> None:
    """Put every image under `folder/cluster-C/`, with its name in the run.

    Images in files of their own are linked or copied, those in an archive are copied, and those in
    an array are written as PNG.

    Args:
        run: the finished run.
        image_set: its images.
        folder: created if missing; must be empty.
        how: for files; a link is symbolic.

    Raises:
        InputError: the folder is not empty, or an image's name points outside it.
    """
    check_empty(folder)
    names = [PurePosixPath(name) for name in run.ids]
    for name in names:
        if name.is_absolute() or ".." in name.parts:
            raise InputError(f"the image named {name} would lie outside {folder}; rename it")
    digits = len(str(run.n_clusters - 1))
    limits = value_range(image_set.images)
    for row, (name, cluster) in enumerate(zip(names, run.clusters, strict=True)):
        target = folder / f"cluster-{cluster:0{digits}d}" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if image_set.places is None:
            _write_png(image_set, row, limits, target.with_name(f"{target.name}.png"))
            continue
        found = image_set.places[row]
        if isinstance(found, Place) and found.size is None and how == "link":
            target.symlink_to(found.path.absolute())
        else:
            target.write_bytes(found.content())


def _write_png(image_set: ImageSet, row: int, limits: tuple[float, float], target: Path) -> None:
    """An array's image as PNG, black and white at these limits."""
    image = as_bytes(image_set.images[np.array([row])][0], *limits)
    grey = image.shape[2] != 3
    Image.fromarray(image[..., 0] if grey else image).save(target)
