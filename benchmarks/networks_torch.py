"""The networks of train_step.py in PyTorch, with the weights JAX's side wrote."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as tf

K = 10
Weights = dict[str, torch.Tensor]


def _copy_conv(conv: nn.Conv2d, given: Weights, name: str) -> None:
    with torch.no_grad():
        conv.weight.copy_(given[f"{name}/kernel"].permute(3, 2, 0, 1))
        if conv.bias is not None:
            conv.bias.copy_(given[f"{name}/bias"])


def _copy_linear(layer: nn.Linear, given: Weights, name: str) -> None:
    with torch.no_grad():
        layer.weight.copy_(given[f"{name}/kernel"].T)
        if layer.bias is not None:
            layer.bias.copy_(given[f"{name}/bias"])


def _last(x: torch.Tensor) -> torch.Tensor:
    """Maps flattened with channels last, as JAX's side has them."""
    return x.permute(0, 2, 3, 1).flatten(1)


class LeNet(nn.Module):
    """CCNN's network for small images."""

    def __init__(self, shape: Sequence[int], given: Weights) -> None:
        super().__init__()
        flat = math.ceil(shape[0] / 4) * math.ceil(shape[1] / 4) * 128
        sizes = ((shape[2], 64), (64, 128))
        self.convs = nn.ModuleList([nn.Conv2d(i, o, 5, padding=2, bias=False) for i, o in sizes])
        self.norms = nn.ModuleList([nn.BatchNorm2d(64), nn.BatchNorm2d(128)])
        self.hidden = nn.Linear(flat, 128, bias=False)
        self.hidden_norm = nn.BatchNorm1d(128)
        self.feature, self.output = nn.Linear(128, K), nn.Linear(K, K)
        for i, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Conv2d)
            _copy_conv(conv, given, f"body/backbone/Conv_{i}")
        _copy_linear(self.hidden, given, "body/head/Dense_0")
        _copy_linear(self.feature, given, "feature")
        _copy_linear(self.output, given, "output")

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = tf.max_pool2d(tf.relu(norm(conv(x))), 2, ceil_mode=True)
        x = tf.relu(self.hidden_norm(self.hidden(_last(x))))
        h = tf.normalize(self.feature(x))
        return h, self.output(h)


def all_conv_net(channels: int, given: Weights, mnist: bool) -> nn.Module:
    """DAC's network for MNIST, or the second one for CIFAR-10."""
    layers: list[nn.Module] = []
    convs = []

    def conv(i: int, o: int, window: int) -> None:
        convs.append(nn.Conv2d(i, o, window, bias=False))
        layers.extend([convs[-1], nn.BatchNorm2d(o), nn.ReLU()])

    for i, o in ((channels, 64), (64, 128)):
        conv(i, o, 3)
        conv(o, o, 3)
        conv(o, o, 3)
        layers.append(nn.MaxPool2d(2))
        layers.extend([nn.BatchNorm2d(o)] if mnist else [])
    conv(128, K, 1)
    layers.append(nn.AvgPool2d(2 if mnist else 3))
    layers.extend([nn.BatchNorm2d(K)] if mnist else [])
    layers.append(nn.Flatten())
    for last in (False, True):
        dense = nn.Linear(K, K, bias=False)
        with torch.no_grad():
            dense.weight.copy_(torch.eye(K))
        layers.extend([dense, nn.BatchNorm1d(K)])
        layers.extend([nn.ReLU()] if mnist or not last else [])
    for i, layer in enumerate(convs):
        _copy_conv(layer, given, f"Conv_{i}")
    return nn.Sequential(*layers)


class PooledAutoencoder(nn.Module):
    """ICS's shallow autoencoder."""

    def __init__(self, shape: Sequence[int], given: Weights) -> None:
        super().__init__()
        widths = (32, 64, 128)
        sizes = [tuple(shape[:2])]
        for _ in widths:
            sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
        self.sizes, self.width = sizes, widths[-1]
        down = [shape[2], *widths]
        up = [128, 64, 32, shape[2]]
        self.down = nn.ModuleList(
            [nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in itertools.pairwise(down)]
        )
        self.up = nn.ModuleList(
            [nn.Conv2d(i, o, 3, padding=1, bias=o == shape[2]) for i, o in itertools.pairwise(up)]
        )
        self.down_norms = nn.ModuleList([nn.BatchNorm2d(width) for width in widths])
        self.up_norms = nn.ModuleList([nn.BatchNorm2d(width) for width in up[:-1]])
        flat = sizes[-1][0] * sizes[-1][1] * 128
        self.to_latent = nn.Linear(flat, 10)
        self.from_latent = nn.Linear(10, flat, bias=False)
        for kind, convs in (("down", self.down), ("up", self.up)):
            for i, conv in enumerate(convs):
                assert isinstance(conv, nn.Conv2d)
                _copy_conv(conv, given, f"{kind}_{i}")
        _copy_linear(self.to_latent, given, "to_latent")
        _copy_linear(self.from_latent, given, "from_latent")

    def forward(self, x: torch.Tensor, decode: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = tf.relu(norm(tf.max_pool2d(conv(x), 2, ceil_mode=True)))
        latent = self.to_latent(_last(x))
        if not decode:
            return latent, latent
        x = self.from_latent(latent)
        x = x.view(-1, *self.sizes[-1], self.width).permute(0, 3, 1, 2)
        for conv, norm, (height, width) in zip(
            self.up, self.up_norms, self.sizes[-2::-1], strict=True
        ):
            x = tf.interpolate(tf.relu(norm(x)), scale_factor=2)
            x = conv(x[:, :, :height, :width])
        return latent, x


class StridedAutoencoder(nn.Module):
    """DERC's autoencoder, for sides that three halvings divide."""

    def __init__(self, shape: Sequence[int], given: Weights) -> None:
        super().__init__()
        widths, self.strides = (16, 16, 32, 128, 256, 32), (1, 2, 1, 2, 2, 1)
        self.side, self.width = tuple(-(-n // 8) for n in shape[:2]), widths[-1]
        down, up = [shape[2], *widths], [*widths[::-1], shape[2]]
        self.halvings = [shape[:2]]
        for stride in self.strides:
            self.halvings.append([-(-n // stride) for n in self.halvings[-1]])
        self.down = nn.ModuleList([nn.Conv2d(i, o, 3, s) for (i, o), s in self._sized(down)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(i, o, 3, s) for (i, o), s in self._sized(up, backwards=True)]
        )
        flat = self.side[0] * self.side[1] * widths[-1]
        self.to_latent = nn.Linear(flat, K, bias=False)
        self.latent_norm = nn.BatchNorm1d(K)
        self.from_latent = nn.Linear(K, flat)
        for i, conv in enumerate(self.down):
            assert isinstance(conv, nn.Conv2d)
            _copy_conv(conv, given, f"down_{i}")
        for i, conv in enumerate(self.up):
            assert isinstance(conv, nn.ConvTranspose2d)
            with torch.no_grad():
                # PyTorch's is the convolution's transpose, with the window turned round.
                conv.weight.copy_(given[f"up_{i}/kernel"].flip(0, 1).permute(2, 3, 0, 1))
                assert conv.bias is not None
                conv.bias.copy_(given[f"up_{i}/bias"])
        _copy_linear(self.to_latent, given, "to_latent")
        _copy_linear(self.from_latent, given, "from_latent")

    def _sized(
        self, widths: Sequence[int], backwards: bool = False
    ) -> list[tuple[tuple[int, int], int]]:
        strides = self.strides[::-1] if backwards else self.strides
        return list(zip(itertools.pairwise(widths), strides, strict=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for conv, stride in zip(self.down, self.strides, strict=True):
            missing = [(-(-n // stride) - 1) * stride + 3 - n for n in x.shape[:1:-1]]
            pads = [part for n in missing for part in (n // 2, n - n // 2)]
            x = tf.relu(conv(tf.pad(x, pads)))
        latent = self.latent_norm(self.to_latent(_last(x)))
        x = self.from_latent(latent).view(-1, *self.side, self.width).permute(0, 3, 1, 2)
        for conv, stride, (height, width) in zip(
            self.up, self.strides[::-1], self.halvings[-2::-1], strict=True
        ):
            start = 1 if stride == 1 else 0
            x = conv(tf.relu(x))[:, :, start : start + height, start : start + width]
        return latent, x


class DenseAutoencoder(nn.Module):
    """DEC's autoencoder."""

    def __init__(self, shape: Sequence[int], given: Weights) -> None:
        super().__init__()
        pixels, widths = math.prod(shape), (500, 500, 2000)
        self.down = nn.ModuleList(
            [nn.Linear(i, o) for i, o in itertools.pairwise([pixels, *widths])]
        )
        self.to_latent = nn.Linear(widths[-1], K)
        self.up = nn.ModuleList(
            [nn.Linear(i, o) for i, o in itertools.pairwise([K, *widths[::-1]])]
        )
        self.to_pixels = nn.Linear(widths[0], pixels)
        for kind, layers in (("down", self.down), ("up", self.up)):
            for i, layer in enumerate(layers):
                assert isinstance(layer, nn.Linear)
                _copy_linear(layer, given, f"{kind}_{i}")
        _copy_linear(self.to_latent, given, "to_latent")
        _copy_linear(self.to_pixels, given, "to_pixels")

    def forward(self, x: torch.Tensor, decode: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        shape = x.shape
        x = _last(x)
        for layer in self.down:
            x = tf.relu(layer(x))
        latent = x = self.to_latent(x)
        if not decode:
            return latent, latent
        for layer in self.up:
            x = tf.relu(layer(x))
        x = self.to_pixels(x).view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)
        return latent, x
