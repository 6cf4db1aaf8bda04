"""Labels for new images from a finished run."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.core.processes import check_platform
from jaxclust.core.types import Compute, DataSpec, Method, Prediction, TrainState
from jaxclust.data import catalogue
from jaxclust.data.places import MAX_MEGAPIXELS, View
from jaxclust.data.resizing import with_channels
from jaxclust.data.streaming import Streamed
from jaxclust.images.normalisation import Normalisation, normalisation_of
from jaxclust.methods import registry
from jaxclust.models.encoders import frozen
from jaxclust.runs import embedding
from jaxclust.runs.directory import RunDirectory
from jaxclust.runs.finished import check_finished
from jaxclust.runs.options import Options
from jaxclust.training.assemble import stand_in
from jaxclust.training.checkpoints import Checkpoints
from jaxclust.training.placement import put
from jaxclust.training.prediction import predictor
from jaxclust.training.saving import filled
from jaxclust.training.starting import template


class Labelled(NamedTuple):
    """New images and what the run predicts for them."""

    image_set: catalogue.ImageSet
    prediction: Prediction  # NumPy arrays, in the images' order; unwanted ones are None


class Reopened(NamedTuple):
    """A finished run with its state, ready to predict."""

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
        InputError: no finished run, or one without a checkpoint.
    """
    directory = RunDirectory(run)
    record = check_finished(run)
    if "edited_from" in record:
        raise InputError(
            f"{run} has clusters that were edited by hand, which no model knows; predict with "
            f"the run it comes from, {record['edited_from']}"
        )
    check_platform()
    method, config, spec, dtype, normalisation = built(record)
    seen = stand_in(spec, dtype, normalisation)
    checkpoints = Checkpoints(directory.checkpoints, every=0)
    try:
        found = checkpoints.restore(lambda phase: template(method, seen, phase))
    finally:
        checkpoints.close()
    if found is None:
        raise InputError(f"{run} has no checkpoint to predict with; run it again")
    return Reopened(record, config, spec, method, found[0], normalisation, dtype)


def built(record: dict[str, Any]) -> tuple[Method, Any, DataSpec, np.dtype, Normalisation]:
    """(method, its settings, spec, the images' dtype, normalisation) of a run's config.json."""
    options = record["options"]
    registered = registry.find(options["method"])
    config = filled(registered.config(options["preset"]), record["config"])
    spec, dtype, normalisation = _described(record)
    compute = Compute(options["precision"])
    method = registered.build(config, spec, compute, **registered.parts(config))
    return method, config, spec, dtype, normalisation


def encoder_of(record: dict[str, Any]) -> frozen.Frozen:
    """The encoder that a run's config.json names.

    Raises:
        InputError: its weights are missing, or not those the run was made with.
    """
    known = record["data"]["encoder"]
    encoder = frozen.load(known["source"], record["options"]["precision"])
    if encoder.digest != known["digest"]:
        raise InputError(
            f"the weights of {known['source']} are not those the run was made with "
            f"({known['name']}); restore those"
        )
    return encoder


def _described(record: dict[str, Any]) -> tuple[DataSpec, np.dtype, Normalisation]:
    """What config.json says about the images: shape, dtype and normalisation."""
    data = record["data"]
    spec = DataSpec(data["n_images"], tuple(data["shape"]), record["n_clusters"])
    values = data["normalisation"]
    return spec, np.dtype(data["dtype"]), normalisation_of(values["mean"], values["std"])


def predict(
    run: Path,
    images: str,
    data_dir: Path | None = None,
    *,
    in_memory: float = Options.in_memory,
    fields: Collection[str] = Prediction._fields,
) -> Labelled:
    """Label images with a finished run.

    Args:
        run: the run's folder.
        images: a folder, an image, an npz file, or what `--dataset` takes.
        data_dir: where prepared sets are.
        in_memory: gigabytes of decoded images to hold; larger sets are read when needed.
        fields: the fields of a :class:`Prediction` that are wanted; the others are None.

    Returns:
        The images, resized and with the same channels as the run's, and their labels.

    Raises:
        InputError: no finished run, no usable images, or images of another kind.
    """
    opened = reopen(run)
    if "encoder" in opened.record["data"]:
        image_set = _encoded(images, opened, data_dir)
    else:
        image_set = _load(images, opened, data_dir, int(in_memory * 1e9))
    new = put(image_set.images, opened.normalisation)
    predicted = predictor(opened.method, new)
    return Labelled(image_set, predicted(opened.state, fields=fields))


def _encoded(images: str, opened: Reopened, data_dir: Path | None) -> catalogue.ImageSet:
    """Features of images by the run's encoder."""
    options, known = opened.record["options"], opened.record["data"]["encoder"]
    encoder = encoder_of(opened.record)
    found = catalogue.load(
        catalogue.named(images),
        data_dir or catalogue.default_data_dir(),
        max_megapixels=options.get("max_megapixels", MAX_MEGAPIXELS),
        ranges=opened.record["data"].get("value_ranges"),
        view=View(*known["view"]),
    )
    return embedding.encoded(found, encoder, embedding.telling(quiet=False))


def _load(
    images: str, opened: Reopened, data_dir: Path | None, in_memory: int
) -> catalogue.ImageSet:
    """Images like the run's: of its size if that is square, with its channels."""
    shape, dtype = opened.spec.shape, opened.dtype
    square = len(shape) == 3 and shape[0] == shape[1]
    loaded = catalogue.load(
        catalogue.named(images, features=len(shape) == 1),
        data_dir or catalogue.default_data_dir(),
        image_size=shape[0] if square else None,
        in_memory=in_memory,
        max_megapixels=opened.record["options"].get("max_megapixels", MAX_MEGAPIXELS),
        ranges=opened.record["data"].get("value_ranges"),
        scales=opened.record["data"].get("scales", ()),
    )
    found = seen = loaded.images
    if isinstance(found, Streamed):
        seen = found.seen_in(shape[-1])
    elif len(found.shape) == len(shape) + 1 == 4:
        seen = with_channels(found, shape[-1])
    if seen.shape[1:] != shape or seen.dtype != dtype:
        kind = "features" if len(shape) == 1 else "images"
        raise InputError(
            f"the run used {dtype} {kind} of shape {shape}, but {images} holds {seen.dtype} ones "
            f"of {seen.shape[1:]}; convert them to match"
        )
    return replace(loaded, images=seen)
