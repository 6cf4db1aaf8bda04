"""ImageNet backbones and their weights files.

AlexNet (Krizhevsky 2014), VGG-16 (Simonyan & Zisserman 2015), ResNet-18 and -50 (He et al.
2016; stride in the 3x3 convolution) as torchvision builds and names them, and MobileNet-v1
(Howard et al. 2017) as Keras names it. What a file holds is told by its names; a layer here
bears the name it has there, so that parameters are found without a table. Classifiers
are left out: a backbone ends in its last map.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxclust.core.errors import InputError, first_line
from jaxclust.core.types import PyTree
from jaxclust.images.normalisation import Normalisation, normalisation_of
from jaxclust.models._cpu.convolution import depthwise_conv2d
from jaxclust.models.layers import BatchNorm, Conv, max_pool

# Side of the pictures all of them were trained on.
SIDE = 224

Weights = Mapping[str, np.ndarray]


class _Backbone(nn.Module):
    """images [b, h, w, 1 or 3] -> the last map [b, h', w', c].

    Attributes:
        axis_name: mapped axis over which batch norm takes its statistics too.
    """

    axis_name: str | None = None

    def conv(
        self, x: Array, name: str, width: int, window: int, stride: int = 1, bias: bool = False
    ) -> Array:
        """A square convolution padded by half its window."""
        edge = (window // 2, window // 2)
        size, strides = (window, window), (stride, stride)
        return Conv(width, size, strides, (edge, edge), use_bias=bias, name=name)(x)

    def norm(self, x: Array, name: str, train: bool, epsilon: float = 1e-5) -> Array:
        """Batch norm by that name."""
        layer = BatchNorm(epsilon=epsilon, axis_name=self.axis_name, name=name)
        return layer(x, use_running_average=not train)


def _colours(x: Array) -> Array:
    """Grey images as coloured ones."""
    return jnp.repeat(x, 3, axis=-1) if x.shape[-1] == 1 else x


class AlexNet(_Backbone):
    """torchvision's, 256 channels; its first convolution has padding 2."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train  # no layer depends on it
        first = Conv(64, (11, 11), (4, 4), ((2, 2), (2, 2)), name="features.0")
        x = nn.relu(first(_colours(x)))
        x = max_pool(x, (3, 3), (2, 2))
        x = max_pool(nn.relu(self.conv(x, "features.3", 192, 5, bias=True)), (3, 3), (2, 2))
        for number, width in ((6, 384), (8, 256), (10, 256)):
            x = nn.relu(self.conv(x, f"features.{number}", width, 3, bias=True))
        return max_pool(x, (3, 3), (2, 2))


class VGG16(_Backbone):
    """512 channels."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        del train
        x, number = _colours(x), 0
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                x = nn.relu(self.conv(x, f"features.{number}", width, 3, bias=True))
                number += 2
            x, number = max_pool(x), number + 1
        return x


class ResNet(_Backbone):
    """ResNet of basic blocks (512 channels) or bottlenecks (2048).

    Attributes:
        depths: blocks of each of the four stages.
        bottleneck: 1x1, 3x3, 1x1 in place of two 3x3 convolutions.
    """

    depths: Sequence[int] = (2, 2, 2, 2)
    bottleneck: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = self.conv(_colours(x), "conv1", 64, 7, 2)
        x = nn.relu(self.norm(x, "bn1", train))
        x = max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, depth in enumerate(self.depths):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                x = self._block(x, f"layer{stage + 1}.{block}", 64 * 2**stage, stride, train)
        return x

    def _block(self, x: Array, name: str, width: int, stride: int, train: bool) -> Array:
        wide = 4 * width if self.bottleneck else width
        # (width, window, stride) of each convolution
        layers = [(width, 3, stride), (width, 3, 1)]
        if self.bottleneck:
            layers = [(width, 1, 1), (width, 3, stride), (wide, 1, 1)]
        y = x
        for i, (channels, window, step) in enumerate(layers, 1):
            y = self.conv(y, f"{name}.conv{i}", channels, window, step)
            y = self.norm(y, f"{name}.bn{i}", train)
            y = nn.relu(y) if i < len(layers) else y
        if stride != 1 or x.shape[-1] != wide:
            x = self.conv(x, f"{name}.downsample.0", wide, 1, stride)
            x = self.norm(x, f"{name}.downsample.1", train)
        return nn.relu(x + y)


class DepthwiseConv(nn.Module):
    """3x3 convolution of each channel by itself; parameter `kernel` [3, 3, c].

    Stride 2 pads even sides after the map alone.
    """

    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x[n, h, w, c] -> [n, ceil(h / stride), ceil(w / stride), c]."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, x.shape[-1]))
        return depthwise_conv2d(x, kernel, self.stride)


class MobileNetV1(_Backbone):
    """1024 channels times the width multiplier.

    Attributes:
        width: the multiplier.
    """

    width: float = 1.0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def settled(x: Array, name: str) -> Array:
            return jnp.clip(self.norm(x, f"{name}_bn", train, epsilon=1e-3), 0, 6)

        widths = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
        first, *others = (int(width * self.width) for width in widths)
        conv = Conv(first, (3, 3), (2, 2), "SAME", use_bias=False, name="conv1")
        x = settled(conv(_colours(x)), "conv1")
        for i, channels in enumerate(others, 1):
            stride = 2 if i in {2, 4, 6, 12} else 1
            x = settled(DepthwiseConv(stride, name=f"conv_dw_{i}")(x), f"conv_dw_{i}")
            x = settled(self.conv(x, f"conv_pw_{i}", channels, 1), f"conv_pw_{i}")
        return x


class Backbone(NamedTuple):
    """A kind of network and what its weights expect."""

    build: Callable[..., _Backbone]  # of axis_name
    mean: Sequence[float]  # of red, green and blue, of 255
    std: Sequence[float]


_TORCH = ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))


def _kind(weights: Weights) -> tuple[str, Backbone] | None:
    """What the names of a file's arrays are those of."""
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
    return None


# Of a parameter or statistic here, the names it may have in a file, and the axes that
# take the file's array to ours.
_NAMES: dict[tuple[str, int], Sequence[tuple[str, Sequence[int] | None]]] = {
    ("kernel", 4): ((".weight", (2, 3, 1, 0)), (".kernel", None)),
    ("kernel", 3): ((".depthwise_kernel", None),),
    ("bias", 1): ((".bias", None), (".beta", None)),
    ("scale", 1): ((".weight", None), (".gamma", None)),
    ("mean", 1): ((".running_mean", None), (".moving_mean", None)),
    ("var", 1): ((".running_var", None), (".moving_variance", None)),
}


class Pretrained(NamedTuple):
    """A weights file."""

    path: Path
    name: str
    backbone: Backbone
    weights: Weights

    def network(self, axis_name: str | None = None) -> _Backbone:
        """The backbone as a Flax module, without its weights."""
        return self.backbone.build(axis_name=axis_name)

    def normalisation(self, channels: int) -> Normalisation:
        """Of stored values 0 to 255, as the network was trained on."""
        mean, std = (np.asarray(v, np.float32) for v in (self.backbone.mean, self.backbone.std))
        if channels == 1:
            mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
        return normalisation_of(mean, std)

    def fill(self, variables: PyTree) -> PyTree:
        """The backbone's variables with the file's values.

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
            if suffix == ".depthwise_kernel" and found.ndim == 4:
                found = found[..., 0]
            array = found if axes is None else np.transpose(found, axes)
            if array.shape != shape:
                raise InputError(
                    f"{self.path} does not fit {self.name}: {layer}{suffix} has shape "
                    f"{self.weights[layer + suffix].shape}, which gives {array.shape}, not {shape}"
                )
            return np.asarray(array, np.float32)
        raise InputError(
            f"{self.path} does not fit {self.name}: it has no {layer}{known[0][0]}; give --init "
            "a file of the whole network"
        )


def load(path: Path) -> Pretrained:
    """A weights file: .safetensors, .npz, or .pth where torch is installed.

    Nothing in a file is executed: no pickle but through torch's `weights_only` loading.

    Raises:
        InputError: no such file, another format, or no network known here.
    """
    if not path.is_file():
        raise InputError(
            f"there is no weights file {path}; --init takes random, autoencoder or the path of a "
            ".safetensors, .npz or .pth file"
        )
    weights = _read(path)
    kind = _kind(weights)
    if kind is None:
        some = ", ".join(list(weights)[:3]) or "nothing"
        raise InputError(
            f"{path} holds no network known here (it has {some} …); known are AlexNet, VGG-16 and "
            "ResNets by torchvision's names, and MobileNet-v1 by Keras's"
        )
    return Pretrained(path, *kind, weights)


def _read(path: Path) -> Weights:
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays}
        if kind == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        if kind in {".pth", ".pt"}:
            import torch

            found = torch.load(path, map_location="cpu", weights_only=True)
            found = found.get("state_dict", found)
            return {
                name.removeprefix("module."): value.numpy()
                for name, value in found.items()
                if isinstance(value, torch.Tensor)
            }
    except ModuleNotFoundError as error:
        raise InputError(
            f"reading {path} needs {error.name}: pip install {error.name}, or convert the file to "
            ".npz"
        ) from error
    except Exception as error:  # each library has kinds of its own for a damaged file
        raise InputError(f"{path} cannot be read as {kind} ({first_line(error)})") from error
    raise InputError(f"{path} is no weights file by its name: .safetensors, .npz or .pth")
