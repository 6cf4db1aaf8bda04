"""A data set placed for training: on the devices, or on the host and read from there."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.core.types import DataSpec, Method
from jaxclust.images.normalisation import Normalisation, measure
from jaxclust.training.parallel import Group


class Data(NamedTuple):
    """A data set on the device, or on the host, from where it is read when needed."""

    # [n, h, w, c] or [n, d] as stored, uint8 or float32; on the host a `types.Source`, which is
    # asked for rows
    images: Any
    normalisation: Normalisation
    group: Group | None = None  # devices that share the batches; None: one device does all

    @property
    def streamed(self) -> bool:
        """Whether blocks of it are uploaded again and again."""
        return not isinstance(self.images, jax.Array)

    def upload(self, images: np.ndarray) -> Any:
        """Images on the device, or whole on each of a group."""
        return jnp.asarray(images) if self.group is None else self.group.replicate(images)


def put(images: Any, normalisation: Normalisation, group: Group | None = None) -> Data:
    """Upload a data set once, as stored; a set that is read when needed stays where it is."""
    data = Data(images, normalisation, group)
    held = isinstance(images, np.ndarray)
    return data._replace(images=data.upload(images)) if held else data


def spec_of(data: Any, n_clusters: int) -> DataSpec:
    """The size and shape of data, or of images [n, h, w, c] or features [n, d] themselves.

    Args:
        data: a :class:`Data`, an array or another `types.Source`.
        n_clusters: to look for.
    """
    n, *shape = (data.images if isinstance(data, Data) else data).shape
    return DataSpec(n, tuple(shape), n_clusters)


def usable(images: Any) -> Any:
    """Images or features as training needs them; sources that are not arrays are unchanged.

    Args:
        images: uint8 or float [n, h, w, c], [n, h, w] (grey) or features [n, d].

    Raises:
        InputError: wrong rank, type or layout, empty, or not finite.
    """
    if not isinstance(images, np.ndarray | jax.Array | list):
        return images
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim not in {2, 4}:
        raise InputError(
            f"images must be [n, h, w, c] and features [n, d], not of shape {images.shape}"
        )
    if 0 in images.shape:
        raise InputError(f"images of shape {images.shape} are empty")
    check_layout(images.shape)
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating) and not np.issubdtype(images.dtype, np.integer):
        raise InputError(f"images must be uint8 or float32, not {images.dtype}")
    if not np.isfinite(images).all():
        raise InputError("images hold NaN or infinite values; leave those out or replace them")
    return images.astype(np.float32)


def check_layout(shape: tuple[int, ...]) -> None:
    """InputError for images [n, c, h, w], as in PyTorch."""
    if len(shape) == 4 and shape[1] in {1, 3} and shape[3] not in {1, 2, 3, 4}:
        raise InputError(
            f"images of shape {shape} have their channels first; give [n, h, w, c]: "
            "images.transpose(0, 2, 3, 1)"
        )


def placed(method: Method, images: Any) -> Data:
    """A data set for a method, on one device, normalised as the method wants it.

    Args:
        method: to be fitted to it, or already fitted to another.
        images: see :func:`usable`; a :class:`Data` is taken as it is.
    """
    if isinstance(images, Data):
        return images
    images = usable(images)
    normalisation = measure(images) if method.normalisation is None else method.normalisation
    return put(images, normalisation)
