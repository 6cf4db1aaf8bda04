"""What is shared by reading vision transformers' files under any of their names."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.models.encoders.vision_transformer import Activation, Shape, VisionTransformer

Arrays = dict[str, np.ndarray]
_OF_HEAD = 64  # values of a head, where nothing else is known
# Number of heads for widths whose heads have another size: timm's ViT-H to -G and SO400M,
# OpenCLIP's, SigLIP's, DINOv3's 7B.
_HEADS = {
    "dino": {1152: 16, 1280: 16, 1408: 16, 1664: 16},
    "clip": {1280: 16, 1408: 16, 1664: 16},
    "siglip": {1152: 16, 1536: 16},
    "dinov3": {4096: 32},
}
SIDE = 224


class Found(NamedTuple):
    """A transformer that a file holds."""

    name: str
    shape: Shape
    params: Arrays  # VisionTransformer's, float32
    side: int  # of the images it sees
    kind: str  # dino, dinov3, clip or siglip: how images are brought to it


class Reader:
    """A file's arrays behind a prefix; those never asked for are reported at the end."""

    def __init__(self, weights: Mapping[str, np.ndarray], anchor: str, where: str) -> None:
        self.weights, self.where = weights, where
        self.prefix = next(n for n in weights if n.endswith(anchor)).removesuffix(anchor)
        self.used: set[str] = set()

    def has(self, name: str) -> bool:
        return self.prefix + name in self.weights

    def take(self, name: str) -> np.ndarray:
        """An array by its name, float32; InputError where it is missing."""
        self.used.add(self.prefix + name)
        if not self.has(name):
            raise InputError(
                f"{self.where} has no {self.prefix}{name}, which its other arrays need"
            )
        return np.asarray(self.weights[self.prefix + name], np.float32)

    def linear(self, name: str, to: str) -> Arrays:
        """A linear layer's kernel and bias."""
        kernel = self.take(f"{name}.weight")
        kernel = kernel.reshape(kernel.shape[0], -1).T
        return {f"{to}_kernel": kernel, f"{to}_bias": self._bias(name, kernel.shape[1])}

    def _bias(self, name: str, width: int) -> np.ndarray:
        """A layer's bias, zeros where it has none."""
        name = f"{name}.bias"
        return self.take(name) if self.has(name) else np.zeros(width, np.float32)

    def norm(self, name: str, to: str) -> Arrays:
        """A layer norm's scale and bias."""
        return {f"{to}_scale": self.take(f"{name}.weight"), f"{to}_bias": self.take(f"{name}.bias")}

    def patches(self, name: str) -> Arrays:
        """The patches' convolution [d, 3, p, p] as a product with rows, columns, channels."""
        kernel = self.take(f"{name}.weight").transpose(2, 3, 1, 0)
        width = kernel.shape[-1]
        return {
            "patch_kernel": kernel.reshape(-1, width),
            "patch_bias": self._bias(name, width),
        }

    def depth(self, blocks: str) -> int:
        """Number of blocks whose names begin with this."""
        start = self.prefix + blocks
        numbers = {n[len(start) :].split(".")[0] for n in self.weights if n.startswith(start)}
        return len(numbers)

    def check_all_used(self, ignored: tuple[str, ...]) -> None:
        """InputError for an array behind the prefix that this network has no place for."""
        for name in self.weights:
            if name.startswith(self.prefix) and name not in self.used:
                rest = name.removeprefix(self.prefix)
                if not rest.startswith(ignored) and not rest.endswith("periods"):
                    raise InputError(
                        f"{self.where} has an array {name}, for which this network has no place"
                    )


def heads_of(kind: str, width: int) -> int | None:
    """Heads of a transformer of this family and width, which no file records; None: unknown."""
    if width in _HEADS[kind]:
        return _HEADS[kind][width]
    return None if width % _OF_HEAD else width // _OF_HEAD


def with_heads(found: Found, heads: int | None, where: str) -> Found:
    """The transformer with a number of heads, where one is asked for.

    Raises:
        InputError: its values cannot be shared by that many heads, or the number is unknown.
    """
    width, known = found.shape.width, found.shape.heads
    if heads is None and not known:
        raise InputError(
            f"{where} holds a transformer of {width} values; files do not record its number of "
            "heads, and none known here has that width: give heads=N:FILE"
        )
    if heads is None:
        return found
    # Rotary positions turn two coordinates' pairs of values.
    least = 4 if found.shape.positions == "rotary" else 1
    if heads < 1 or width % (heads * least):
        raise InputError(f"{where} has {width} values, which {heads} heads cannot share")
    return found._replace(shape=found.shape._replace(heads=heads))


def fitting(found: Found, where: str) -> Found:
    """The transformer, whose arrays are checked.

    Raises:
        InputError: patches that do not divide its images, or an array of another shape than the
            others ask for.
    """
    patch, side = found.shape.patch, found.side
    if not patch or side % patch:
        raise InputError(f"{where} has patches of {patch} pixels, which {side} is no multiple of")
    network = VisionTransformer(shape=found.shape)
    images = jnp.zeros((1, side, side, 3), jnp.float32)
    wanted = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), images)
    for name, array in wanted["params"].items():
        has = found.params[name].shape if name in found.params else "not there"
        if has != array.shape:
            raise InputError(
                f"{where} does not fit {found.name}: {name.replace('_', ' ')} is {has}, but "
                f"{array.shape} is expected"
            )
    return found


# Of layer norms.
_EPSILON = {"dino": 1e-6, "siglip": 1e-6, "dinov3": 1e-5, "clip": 1e-5}


def patch_of(params: Arrays) -> int:
    """Pixels a side of a patch, of three colours."""
    return round((params["patch_kernel"].shape[0] / 3) ** 0.5)


def found(
    name: str, params: Arrays, kind: str, side: int, activation: Activation = "gelu"
) -> Found:
    """The transformer that the arrays make.

    Args:
        name: of its family, for display.
        params: all of its arrays.
        kind: as in :class:`Found`.
        side: of the images.
        activation: of MLPs without a gate.
    """
    width, patch = params["patch_bias"].shape[0], patch_of(params)
    shape = Shape(
        width=width,
        depth=sum(name.endswith("_qkv_kernel") for name in params),
        heads=heads_of(kind, width) or 0,
        patch=patch,
        grid=side // patch,
        hidden=params["block0_fc2_kernel"].shape[0],
        class_token="class_token" in params,
        registers=len(params.get("registers", ())),
        positions="table" if "positions" in params else "rotary",
        class_position="class_position" in params,
        layer_scale="block0_scale1" in params,
        first_norm="first_norm_scale" in params,
        activation="silu_gated" if _is_gated(params) else activation,
        epsilon=_EPSILON[kind],
        pooling="attention" if "pool_latent" in params else "token",
        output=params["output"].shape[1] if "output" in params else None,
    )
    return Found(f"{name} ViT-{width}/{patch}", shape, params, side, kind)


def _is_gated(params: Arrays) -> bool:
    """Whether the MLPs' first product has a gate beside the values (SwiGLU)."""
    return params["block0_fc1_kernel"].shape[1] == 2 * params["block0_fc2_kernel"].shape[0]


def add_places(
    params: Arrays, table: np.ndarray, classed: bool, place: Callable[..., np.ndarray]
) -> None:
    """Add the position table, the class token's apart."""
    table = table.reshape(-1, table.shape[-1])
    if classed:
        params["class_position"] = table[:1]
        table = table[1:]
    params["positions"] = place(table)


def joined(parts: list[Arrays], to: str) -> Arrays:
    """Several linear layers of the same input as one."""
    return {
        f"{to}_kernel": np.concatenate([part["p_kernel"] for part in parts], axis=1),
        f"{to}_bias": np.concatenate([part["p_bias"] for part in parts]),
    }
