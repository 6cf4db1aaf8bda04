"""Builds a method for a set of images, and puts the set on the devices for training."""

from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.core.settings import check_value
from jaxclust.core.types import Compute, DataSpec, Method, Precision
from jaxclust.images.normalisation import Normalisation, measure
from jaxclust.methods.registry import Registered
from jaxclust.training import parallel
from jaxclust.training.placement import Data, put


class Assembled(NamedTuple):
    """The input of `training.fit`."""

    method: Method
    data: Data


def stand_in(spec: DataSpec, dtype: Any, normalisation: Normalisation) -> Data:
    """Stands in for a set that is no longer there, to get the shapes of a state trained on it.

    Args:
        spec: the set's.
        dtype: of its stored values.
        normalisation: of them.
    """
    shaped: Any = np.broadcast_to(np.zeros((), dtype), (spec.n_images, *spec.shape))
    return Data(shaped, normalisation)


def check_n_clusters(k: Any, n_images: int) -> None:
    """InputError for fewer than two clusters, or more clusters than images."""
    check_value("n_clusters", k, int)
    if n_images < 2:
        raise InputError(f"clustering needs two images or more, but there is {n_images}")
    if not 2 <= k <= n_images:
        raise InputError(
            f"‹n_clusters› must lie between 2 and the number of images ({n_images}), not {k}"
        )


def assemble(
    registered: Registered,
    config: Any,
    images: Any,
    n_clusters: int,
    *,
    precision: Precision = "float32",
    devices: int | None = None,
) -> Assembled:
    """Build a method for images and put them where it will be trained.

    Args:
        registered: the method.
        config: its settings.
        images: uint8 or float32 [n, h, w, c], features [n, d], or a `types.Source` of such.
        n_clusters: to look for.
        precision: of the networks' passes, see :class:`types.Compute`.
        devices: local devices to share batches; None: as many as can share them evenly.

    Raises:
        InputError: settings that do not fit each other, the images or the devices.
    """
    check_value("precision", precision, Precision)
    spec = DataSpec(len(images), tuple(images.shape[1:]), n_clusters)
    parts = registered.parts(config)
    method = registered.build(config, spec, Compute(precision), **parts)
    group = parallel.choose(method, spec.n_images, devices)
    if group is not None:
        method = registered.build(config, spec, Compute(precision, parallel.AXIS), **parts)
    normalisation = method.normalisation
    if normalisation is None:
        normalisation = measure(images)
    elif images.dtype != np.uint8:
        raise InputError(
            "pre-trained weights expect uint8 images, but these are "
            f"{images.dtype}; convert them, or give another ‹init›"
        )
    return Assembled(method, put(images, normalisation, group))
