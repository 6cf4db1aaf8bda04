"""The encoder that a weights file holds, and its arrays as that encoder's variables.

The names of a file's arrays tell what it holds: torchvision's, Keras's or those of
EfficientNet-Lite's PyTorch package. Layers here have the same names, so that parameters are found
without a table.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.core.types import PyTree
from jaxclust.images.normalisation import Normalisation, normalisation_of
from jaxclust.models.encoders import efficientnet_lite
from jaxclust.models.encoders.efficientnet_lite import EfficientNetLite
from jaxclust.models.encoders.mobilenet import MobileNetV1
from jaxclust.models.encoders.named_layers import Encoder
from jaxclust.models.encoders.torchvision_networks import VGG16, AlexNet, ResNet
from jaxclust.models.encoders.weight_files import Weights, read


class Backbone(NamedTuple):
    """A kind of network and what its weights expect."""

    build: Callable[..., Encoder]  # of axis_name
    mean: Sequence[float]  # of red, green and blue, of 255
    std: Sequence[float]
    side: int = 224  # of the images it was trained on


_TORCH = ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))


def _kind(weights: Weights) -> tuple[str, Backbone] | None:
    """The encoder that the names of a file's arrays belong to."""
    first = weights.get("features.0.weight")
    if first is not None:
        if first.shape[-1] == 11:
            return "AlexNet", Backbone(AlexNet, *_TORCH)
        if "features.28.weight" in weights and first.shape[-1] == 3:
            return "VGG-16", Backbone(VGG16, *_TORCH)
    if "layer1.0.conv1.weight" in weights:
        stages = [
            {n.split(".")[1] for n in weights if n.startswith(f"layer{i}.")} for i in range(5)
        ]
        depths = tuple(map(len, stages[1:]))
        deep = "layer1.0.conv3.weight" in weights
        name: dict[tuple[int, ...], str] = {
            (2, 2, 2, 2): "ResNet-18",
            (3, 4, 6, 3): "ResNet-50" if deep else "ResNet-34",
        }

        def resnet(**options: Any) -> ResNet:
            return ResNet(depths=depths, bottleneck=deep, **options)

        return name.get(depths, "ResNet"), Backbone(resnet, *_TORCH)
    if "conv_dw_1.depthwise_kernel" in weights:
        multiplier = weights["conv_dw_1.depthwise_kernel"].shape[2] / 32

        def mobilenet(**options: Any) -> MobileNetV1:
            return MobileNetV1(width=multiplier, **options)

        return "MobileNet-v1", Backbone(mobilenet, (127.5,) * 3, (127.5,) * 3)
    return _efficientnet_lite(weights)


# (name, multipliers of width and depth, side of the images)
_LITE = (
    ("EfficientNet-Lite0", 1.0, 1.0, 224),
    ("EfficientNet-Lite1", 1.0, 1.1, 240),
    ("EfficientNet-Lite2", 1.1, 1.2, 260),
)


def _efficientnet_lite(weights: Weights) -> tuple[str, Backbone] | None:
    """The one whose blocks a file has; None for other files."""
    head = weights.get("_conv_head.weight")
    if head is None or head.ndim != 4:
        return None
    blocks = len({name.split(".")[1] for name in weights if name.startswith("_blocks.")})
    last = efficientnet_lite.STAGES[-1].width
    for name, width, depth, side in _LITE:
        found = (sum(efficientnet_lite.depths(depth)), efficientnet_lite.scaled(last, width))
        if found == (blocks, head.shape[1]):
            build = partial(EfficientNetLite, width=width, depth=depth)
            return name, Backbone(build, (127.0,) * 3, (128.0,) * 3, side)
    return None


# For a parameter or statistic here: the names it may have in a file, and the axes that turn the
# file's array into ours.
_NAMES: dict[tuple[str, int], Sequence[tuple[str, Sequence[int] | None]]] = {
    ("kernel", 4): ((".weight", (2, 3, 1, 0)), (".kernel", None)),
    ("kernel", 3): ((".depthwise_kernel", None), (".weight", (2, 3, 0, 1))),
    ("bias", 1): ((".bias", None), (".beta", None)),
    ("scale", 1): ((".weight", None), (".gamma", None)),
    ("mean", 1): ((".running_mean", None), (".moving_mean", None)),
    ("var", 1): ((".running_var", None), (".moving_variance", None)),
}


class Pretrained(NamedTuple):
    """A weights file's arrays (any float dtype) and the encoder they are of."""

    path: Path
    name: str
    backbone: Backbone
    weights: Weights

    def network(self, axis_name: str | None = None) -> Encoder:
        """The backbone as a Flax module, without its weights."""
        return self.backbone.build(axis_name=axis_name)

    def normalisation(self, channels: int) -> Normalisation:
        """Normalisation of values 0 to 255, as used in training; float32 [channels]."""
        mean, std = (np.asarray(v, np.float32) for v in (self.backbone.mean, self.backbone.std))
        if channels == 1:
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        return normalisation_of(mean, std)

    def fill(self, variables: PyTree) -> PyTree:
        """The backbone's variables with the file's values, float32.

        Args:
            variables: arrays or their shapes, by collection, layer and name.

        Raises:
            InputError: one is missing or of another shape; names the first.
        """
        return {
            collection: {
                layer: {name: self._array(layer, name, leaf.shape) for name, leaf in leaves.items()}
                for layer, leaves in layers.items()
            }
            for collection, layers in variables.items()
        }

    def _array(self, layer: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        known = _NAMES[name, len(shape)]
        for suffix, axes in known:
            found = self.weights.get(layer + suffix)
            if found is None:
                continue
            fits = axes is not None and found.ndim == len(axes)
            array = np.transpose(found, axes) if fits else found
            if len(shape) == 3 and array.shape[3:] == (1,):
                array = array[..., 0]
            if array.shape != shape:
                raise InputError(
                    f"{self.path} does not fit {self.name}: {layer}{suffix} has shape "
                    f"{self.weights[layer + suffix].shape}, which gives {array.shape}, not {shape}"
                )
            return np.asarray(array, np.float32)
        raise InputError(
            f"{self.path} does not fit {self.name}: it has no {layer}{self._usual(known)}; give "
            "--init a file of the whole network"
        )

    def _usual(self, known: Sequence[tuple[str, Any]]) -> str:
        """The name among those known that arrays have in this file."""
        names = [suffix for suffix, _ in known]
        used = (s for s in names if any(name.endswith(s) for name in self.weights))
        return next(used, names[0])


def load(path: Path, weights: Weights | None = None) -> Pretrained:
    """A weights file: .safetensors, .npz or .pth.

    Args:
        path: of the file.
        weights: its arrays, where it has been read.

    Raises:
        InputError: no such file, another format, or no network known here.
    """
    weights = read(path) if weights is None else weights
    kind = _kind(weights)
    if kind is None:
        some = ", ".join(list(weights)[:3]) or "nothing"
        raise InputError(
            f"{path} holds no network known here (it has {some} …); known are AlexNet, VGG-16 and "
            "ResNets by torchvision's names, MobileNet-v1 by Keras's, EfficientNet-Lite 0 to 2; "
            "as encoders also vision transformers by the names of DINO, timm, Hugging Face and CLIP"
        )
    return Pretrained(path, *kind, weights)
