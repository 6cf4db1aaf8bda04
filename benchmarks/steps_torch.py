"""The train steps of train_step.py, in PyTorch, from the weights JAX's side wrote."""

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from measuring import timed
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


def _all_conv_net(channels: int, given: Weights, mnist: bool) -> nn.Module:
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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, norm in zip(self.down, self.down_norms, strict=True):
            x = tf.relu(norm(tf.max_pool2d(conv(x), 2, ceil_mode=True)))
        x = self.from_latent(self.to_latent(_last(x)))
        x = x.view(-1, *self.sizes[-1], self.width).permute(0, 3, 1, 2)
        for conv, norm, (height, width) in zip(
            self.up, self.up_norms, self.sizes[-2::-1], strict=True
        ):
            x = tf.interpolate(tf.relu(norm(x)), scale_factor=2)
            x = conv(x[:, :, :height, :width])
        return x


def _prepare(network: nn.Module, compiled: bool) -> Any:
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return torch.compile(network) if compiled else network


def _bare(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: torch.Tensor,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    compiled: bool,
) -> Callable[[], float]:
    run = _prepare(network, compiled)

    def step() -> float:
        network.train()
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(run(images))
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step


def _ccnn(
    options: argparse.Namespace, given: Weights, images: torch.Tensor, compiled: bool
) -> Callable[[], float]:
    network = LeNet(options.shape, given)
    run = _prepare(network, compiled)
    adam = torch.optim.Adam(network.parameters(), lr=3e-4, fused=True)
    centroids, counts = given["centroids"], given["counts"]
    trusted = 4 * options.batch // 5

    def step() -> float:
        nonlocal centroids, counts
        network.eval()
        with torch.inference_mode():
            h, _ = run(images)
            distances = torch.cdist(h, centroids).square()
            nearest, labels = distances.min(dim=1)
            member = tf.one_hot(labels, K).float()
            same = labels[:, None] == labels[None]
            rank = (same & (nearest[None] < nearest[:, None])).sum(dim=1)
            chosen = torch.argsort(rank + nearest / (nearest.max() + 1))[:trusted]
        chosen = chosen.clone()
        targets = tf.one_hot(labels.clone()[chosen], K).float()
        network.train()
        adam.zero_grad(set_to_none=True)
        _, logits = run(images[chosen])
        loss = 0.5 * (torch.softmax(logits, dim=1) - targets).square().sum(dim=1).mean()
        loss.backward()
        adam.step()
        with torch.inference_mode():
            added = member.sum(dim=0)
            sums = counts[:, None] * centroids + member.T @ h
            moved = sums / (counts + added).clamp(min=1e-12)[:, None]
            centroids = torch.where(added[:, None] > 0, moved, centroids)
            counts = (counts + added).clamp(max=50)
        return float(loss.detach())

    return step


def _pair_loss(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """DAC's squared error of all pairs' similarities at threshold 0.9."""
    powers = torch.exp(logits - logits.amax(dim=1, keepdim=True).detach())
    features = powers / powers.norm(dim=1, keepdim=True)
    with torch.no_grad():
        targets = (known @ known.T >= 0.9).float()
    return (features @ features.T - targets).square().mean()


def build(options: argparse.Namespace, given: Weights, compiled: bool) -> Callable[[], float]:
    """The subject's step: trains in place, returns the loss before it."""
    images = given["images"].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    if options.subject == "ccnn":
        return _ccnn(options, given, images, compiled)
    if options.subject == "ics_shallow":
        network = PooledAutoencoder(options.shape, given)
        adam = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        return _bare(network, adam, images, lambda y: tf.mse_loss(y, images), compiled)
    network = _all_conv_net(options.shape[2], given, options.subject != "dac_cifar2")
    rmsprop = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9)
    if options.subject == "dac":
        return _bare(network, rmsprop, images, lambda y: _pair_loss(y, given["known"]), compiled)
    targets = tf.one_hot(torch.arange(options.batch) % K, K).float()
    return _bare(network, rmsprop, images, lambda y: tf.mse_loss(y, targets), compiled)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """PyTorch's figures, eager and, where a compiler is at hand, compiled."""
    torch.set_num_threads(options.threads)
    with np.load(options.exchange) as arrays:
        given = {name: torch.from_numpy(arrays[name].copy()) for name in arrays}
    step = build(options, given, compiled=False)
    report: dict[str, Any] = {"loss": step(), "version": torch.__version__}
    report["eager"] = timed(step, options.repeats)
    if options.compile:
        step = build(options, given, compiled=True)
        report["compiled_loss"] = step()
        report["compiled"] = timed(step, options.repeats)
    return report
