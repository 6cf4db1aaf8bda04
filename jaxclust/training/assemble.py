"""A method built for a set of images, and the set on the devices it is trained on."""

from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.core.types import Compute, DataSpec, Method, Precision
from jaxclust.images.normalisation import Normalisation, measure
from jaxclust.methods.registry import Registered
from jaxclust.training import feed, parallel
from jaxclust.training.feed import Data


class Assembled(NamedTuple):
    """What `train.fit` is given."""

    method: Method
    data: Data


def stand_in(spec: DataSpec, dtype: Any, normalisation: Normalisation) -> Data:
    """The shape of a set that is no longer there, for the shapes of a state trained on it.

    Args:
        spec: the set's.
        dtype: of its stored values.
        normalisation: of them.
    """
    shaped: Any = np.broadcast_to(np.zeros((), dtype), (spec.n_images, *spec.image_shape))
    return Data(shaped, normalisation)


def check_n_clusters(k: int, n_images: int, option: str = "--n-clusters") -> None:
    """InputError for fewer than two clusters, or more than there are images."""
    if not 2 <= k <= n_images:
        raise InputError(
            "the number of clusters must lie between 2 and the number of images "
            f"({n_images}), not {k}; set {option}"
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
        images: uint8 or float32 [n, h, w, c], or `pictures.Streamed` in its place.
        n_clusters: to look for.
        precision: of the networks' passes, see :class:`base.Compute`.
        devices: local devices to share batches; None: as many as can do so evenly.

    Raises:
        InputError: settings that do not go with each other, the images or the devices.
    """
    spec = DataSpec(len(images), tuple(images.shape[1:]), n_clusters)
    method = registered.build(config, spec, Compute(precision))
    group = parallel.choose(method, spec.n_images, devices)
    if group is not None:
        method = registered.build(config, spec, Compute(precision, parallel.AXIS))
    normalisation = method.normalisation
    if normalisation is None:
        normalisation = measure(images)
    elif images.dtype != np.uint8:
        raise InputError(
            "pre-trained weights expect pictures of bytes, and these are "
            f"{images.dtype}; give uint8 images, or another --init"
        )
    return Assembled(method, feed.put(images, normalisation, group))
