"""Labels for new images from a finished run."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust import train
from jaxclust.assemble import stand_in
from jaxclust.base import Compute, DataSpec, Method, Prediction, TrainState
from jaxclust.checkpoint import Checkpoints
from jaxclust.data import sources
from jaxclust.data.transforms import Normalisation
from jaxclust.errors import InputError
from jaxclust.methods import registry
from jaxclust.report.finished import check_finished
from jaxclust.report.run_dir import RunDirectory

# Parts of red, green and blue in a grey value (ITU-R 601), as Pillow has them.
_LUMINANCE = (0.299, 0.587, 0.114)


class Labelled(NamedTuple):
    """New images and what the run says of them."""

    image_set: sources.ImageSet
    prediction: Prediction  # NumPy arrays, in the images' order


class Reopened(NamedTuple):
    """A finished run with its state, ready to be asked."""

    record: dict[str, Any]  # config.json
    config: Any  # the method's settings
    spec: DataSpec
    method: Method
    state: TrainState
    normalisation: Normalisation
    dtype: np.dtype  # of the images


def reopen(run: Path) -> Reopened:
    """Read a finished run back.

    Raises:
        InputError: no finished run, or one without its checkpoint.
    """
    directory = RunDirectory(run)
    record = check_finished(run)
    options, described = record["options"], record["data"]
    registered = registry.find(options["method"])
    config = _filled(registered.config(options["preset"]), record["config"])
    height, width, channels = described["shape"]
    spec = DataSpec(described["n_images"], (height, width, channels), record["n_clusters"])
    method = registered.build(config, spec, Compute(options["precision"]))
    values = described["normalisation"]
    normalisation = Normalisation(*(np.array(values[name], np.float32) for name in ("mean", "std")))
    dtype = np.dtype(described["dtype"])
    seen = stand_in(spec, dtype, normalisation)
    checkpoints = Checkpoints(directory.checkpoints, every=0)
    try:
        found = checkpoints.restore(lambda phase: train.template(method, seen, phase))
    finally:
        checkpoints.close()
    if found is None:
        raise InputError(f"{run} has no checkpoint to predict with; run it again")
    return Reopened(record, config, spec, method, found[0], normalisation, dtype)


def predict(run: Path, images: str, data_dir: Path | None = None) -> Labelled:
    """Label images as a finished run would have.

    Args:
        run: the run's folder.
        images: a folder, a picture, an npz file, or what `--dataset` takes.
        data_dir: where prepared sets lie.

    Returns:
        The images, resized and given the channels the run knows, and their labels.

    Raises:
        InputError: no finished run, no usable images, or such of another kind.
    """
    opened = reopen(run)
    image_set = _load(images, opened.spec.image_shape, opened.dtype, data_dir)
    new = train.put(image_set.images, opened.normalisation)
    return Labelled(image_set, train.predictor(opened.method, new)(opened.state))


def _filled(config: Any, values: dict[str, Any]) -> Any:
    """A method's settings with the values that a config.json holds."""
    known = {}
    for entry in fields(config):
        value, now = values.get(entry.name), getattr(config, entry.name)
        if entry.name not in values:
            continue
        if is_dataclass(now) and isinstance(value, dict):
            value = _filled(now, value)
        known[entry.name] = tuple(value) if isinstance(value, list) else value
    return replace(config, **known)


def _named(images: str) -> str:
    """What `sources.load` calls it."""
    if images in sources.CATALOGUE or images.startswith(("folder:", "npz:")):
        return images
    path = Path(images).expanduser()
    if not path.exists():
        raise InputError(
            f"no such images: {images}; give a folder, a picture, an npz file or a data set's name"
        )
    return f"npz:{path}" if path.suffix == ".npz" else f"folder:{path}"


def _load(
    images: str, shape: tuple[int, int, int], dtype: np.dtype, data_dir: Path | None
) -> sources.ImageSet:
    """Images of the run's kind: its size where that is square, its channels."""
    height, width, channels = shape
    name = _named(images)
    size = height if height == width else None
    loaded = sources.load(name, data_dir or sources.default_data_dir(), image_size=size)
    pictures = with_channels(loaded.images, channels)
    if pictures.shape[1:] != shape or pictures.dtype != dtype:
        raise InputError(
            f"the run knows {dtype} images of shape {shape}, and {images} holds {pictures.dtype} "
            f"ones of {pictures.shape[1:]}; bring them to the same"
        )
    return replace(loaded, images=pictures)


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Images [n, h, w, c] with 1 or 3 channels: grey repeated, or colours' luminance."""
    if images.shape[3] == channels:
        return images
    if images.shape[3] == 1:
        return np.repeat(images, channels, axis=3)
    if (images.shape[3], channels) != (3, 1):
        return images
    grey = images @ np.array(_LUMINANCE, np.float32)
    grey = np.round(grey) if images.dtype == np.uint8 else grey
    return grey[..., None].astype(images.dtype)
