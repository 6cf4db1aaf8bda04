"""DAC on MNIST in plain PyTorch, as its published code has it (Chang et al. 2017).

It shares no code with jaxclust, so that a mistake made there is not made here too. What the
published code does: 1000 images at a time in a fixed order; their label features predicted in
batches of 32, each by its own batch statistics; similarities above a threshold count as alike;
five passes over the 1000 in batches of 128, the last of 104, on random views; squared error;
RMSprop. The threshold falls from 0.9 to 0.5 over the epochs.

Needs PyTorch.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

DRAW, TARGET_BATCH, BATCH, PASSES = 1000, 32, 128, 5
SCHEDULE = (0.9, 0.5, 20)  # first and last threshold, epochs
ROTATION, SHIFT, ZOOM, CHANNEL_SHIFT, FACTOR = 10.0, 0.1, 0.05, 0.05, 0.975


class Normed(nn.BatchNorm2d):
    """Batch norm that always uses the batch's own statistics."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-3, track_running_stats=False)


def convolution(wide_in: int, wide_out: int, side: int) -> nn.Sequential:
    """Unpadded convolution of He-normal weights, batch norm, ReLU."""
    layer = nn.Conv2d(wide_in, wide_out, side)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (wide_in * side * side)))
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(layer, Normed(wide_out), nn.ReLU())


def dense(width: int) -> nn.Sequential:
    """A square layer that begins as the identity, on maps of one pixel; batch norm, ReLU."""
    layer = nn.Conv2d(width, width, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(width)[:, :, None, None])
    nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    return nn.Sequential(layer, Normed(width), nn.ReLU())


class Network(nn.Module):
    """Images [b, 1, 28, 28] -> label features [b, k], rows of unit length."""

    def __init__(self, k: int, channels: int = 1) -> None:
        super().__init__()
        wide = [convolution(a, b, 3) for a, b in ((channels, 64), (64, 64), (64, 64))]
        wider = [convolution(a, b, 3) for a, b in ((64, 128), (128, 128), (128, 128))]
        self.layers = nn.Sequential(
            *wide,
            nn.MaxPool2d(2),
            Normed(64),
            *wider,
            nn.MaxPool2d(2),
            Normed(128),
            convolution(128, k, 1),
            nn.AvgPool2d(2),
            Normed(k),
            dense(k),
            dense(k),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.layers(images).flatten(1)
        return F.normalize((logits - logits.amax(dim=1, keepdim=True)).exp(), dim=1)


def views(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random view of each image [b, c, s, s], values between 0 and 1 less their mean."""
    b, c = images.shape[:2]

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, device=images.device) * 2 - 1

    angle = drawn(b) * math.radians(ROTATION)
    rows, columns = (1 + drawn(b) * ZOOM for _ in range(2))
    cos, sin = angle.cos(), angle.sin()
    # A grid of -1 to 1: half a side is one.
    down, right = (drawn(b) * SHIFT * 2 for _ in range(2))
    moves = [cos * columns, -sin * rows, right, sin * columns, cos * rows, down]
    theta = torch.stack(moves, dim=1).view(b, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=True)
    view = F.grid_sample(images, grid, mode="nearest", padding_mode="border", align_corners=True)
    lowest, highest = view.amin(dim=(1, 2, 3), keepdim=True), view.amax(dim=(1, 2, 3), keepdim=True)
    shifted = view + drawn(b, c, 1, 1) * CHANNEL_SHIFT
    return torch.minimum(torch.maximum(shifted, lowest), highest) * FACTOR


def labels(network: Network, images: torch.Tensor) -> np.ndarray:
    """The largest label feature of every image, by statistics of 1000 at a time."""
    with torch.no_grad():
        found = [network(images[i : i + DRAW]).argmax(dim=1) for i in range(0, len(images), DRAW)]
    return torch.cat(found).cpu().numpy()


def fit(images: np.ndarray, k: int, seed: int, device: str = "cpu") -> Iterator[np.ndarray]:
    """The assignments int [n] after every outer epoch.

    Args:
        images: uint8 [n, 28, 28, c].
        k: clusters.
        seed: of weights and draws.
        device: of PyTorch.
    """
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    values = (values - values.mean(dim=(0, 2, 3), keepdim=True)).to(device)
    network = Network(k, values.shape[1]).to(device)
    rmsprop = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9, eps=1e-8)
    for threshold in np.linspace(*SCHEDULE):
        for start in range(0, len(values), DRAW):
            _learn(network, rmsprop, values[start : start + DRAW], float(threshold), generator)
        yield labels(network, values)


def _learn(
    network: Network,
    rmsprop: Any,
    draw: torch.Tensor,
    threshold: float,
    generator: torch.Generator,
) -> None:
    """The passes over a draw."""
    with torch.no_grad():
        known = torch.cat([network(part) for part in draw.split(TARGET_BATCH)])
    for _ in range(PASSES):
        order = torch.randperm(len(draw), generator=generator, device=draw.device)
        for chosen in order.split(BATCH):
            alike = (known[chosen] @ known[chosen].T >= threshold).float()
            features = network(views(draw[chosen], generator))
            loss = (features @ features.T - alike).square().mean()
            rmsprop.zero_grad(set_to_none=True)
            loss.backward()
            rmsprop.step()
