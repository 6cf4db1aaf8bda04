"""The train steps of train_step.py, in PyTorch, from the weights JAX's side wrote."""

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from measuring import serve, timed
from networks_torch import (
    DenseAutoencoder,
    K,
    LeNet,
    PooledAutoencoder,
    StridedAutoencoder,
    Weights,
    all_conv_net,
)
from torch import nn
from torch.nn import functional as tf

# Trains in place; returns the loss before it.
Step = Callable[[], torch.Tensor]


def _student_t(latent: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    kernel = 1 / (1 + (latent[:, None] - centroids[None]).square().sum(dim=2))
    return kernel / kernel.sum(dim=1, keepdim=True)


def _latents(
    name: str, options: argparse.Namespace, given: Weights, images: torch.Tensor, mode: str | None
) -> Step:
    """DEC, IDEC and ICS."""
    kind = PooledAutoencoder if name == "ics" else DenseAutoencoder
    network = kind(options.shape, given)
    run = _prepare(network, mode)
    centroids = nn.Parameter(given["centroids"].clone())
    adam = torch.optim.Adam([*network.parameters(), centroids], lr=1e-3, fused=True)
    targets, negatives = given["targets"], given["negatives"].long()

    def step() -> torch.Tensor:
        if name == "ics":
            network.eval()
            with torch.no_grad():
                plain, _ = run(images, False)
                around, _ = run(images.repeat_interleave(10, dim=0), False)
                # How far each image's views lie, which decides on negatives.
                (around.view(len(plain), 10, -1) - plain[:, None]).norm(dim=2).amax(dim=1)
        network.train()
        adam.zero_grad(set_to_none=True)
        latent, decoded = run(images, name != "dec")
        q = _student_t(latent, centroids)
        clustering = (targets * (targets.log() - q.log())).sum(dim=1).mean()
        error = (decoded - images).square() if name != "dec" else None
        if name == "dec":
            loss = clustering
        elif name == "idec":
            assert error is not None
            loss = 0.1 * clustering + error.mean()
        else:
            assert error is not None
            entropy = -(q * q.log()).sum(dim=1).mean()
            mean = q.mean(dim=0)
            entropy = entropy + (mean * mean.log()).sum()
            positive, _ = run(images, False)
            near = (latent - positive).square().sum(dim=1)
            far = (latent - latent[negatives]).square().sum(dim=1)
            triplet = tf.relu(near - far + 0.24).mean()
            loss = 0.8 * clustering + error.mean() + 0.1 * entropy + triplet
        loss.backward()
        adam.step()
        return loss.detach()

    return step


def _derc_loss(given: Weights, images: torch.Tensor) -> Callable[[Any], torch.Tensor]:
    """DERC's loss of what its autoencoder makes of the images."""
    p, same, other = given["targets"], given["same"].long(), given["other"].long()
    exists = given["exists"].float()

    def loss_of(output: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        z, decoded = output
        classes = p.argmax(dim=1, keepdim=True)
        difference = (p.gather(1, classes) - p[same].gather(1, classes)).abs()[:, 0]
        near = (z - z[same]).square().sum(dim=1)
        far = (z - z[other]).square().sum(dim=1)
        triplets = tf.relu((1 - difference) * near - far + 1) * exists
        triplet = triplets.sum() / exists.sum().clamp(min=1)
        error = (decoded - images).square().sum(dim=(1, 2, 3)).mean()
        return 0.7 * triplet + 0.3 * error

    return loss_of


def _prepare(network: nn.Module, mode: str | None) -> Any:
    """Channels last; `mode` is torch.compile's, None without it."""
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network if mode is None else torch.compile(network, mode=mode)


def _bare(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    images: torch.Tensor,
    loss_of: Callable[[Any], torch.Tensor],
    mode: str | None,
) -> Step:
    run = _prepare(network, mode)

    def step() -> torch.Tensor:
        network.train()
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(run(images))
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def _ccnn(
    options: argparse.Namespace, given: Weights, images: torch.Tensor, mode: str | None
) -> Step:
    network = LeNet(options.shape, given)
    run = _prepare(network, mode)
    adam = torch.optim.Adam(network.parameters(), lr=3e-4, fused=True)
    centroids, counts = given["centroids"], given["counts"]
    trusted = 4 * options.batch // 5

    def step() -> torch.Tensor:
        nonlocal centroids, counts
        network.eval()
        with torch.no_grad():
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
        with torch.no_grad():
            added = member.sum(dim=0)
            sums = counts[:, None] * centroids + member.T @ h
            moved = sums / (counts + added).clamp(min=1e-12)[:, None]
            centroids = torch.where(added[:, None] > 0, moved, centroids)
            counts = (counts + added).clamp(max=50)
        return loss.detach()

    return step


def _pair_loss(logits: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """DAC's squared error of all pairs' similarities at threshold 0.9."""
    powers = torch.exp(logits - logits.amax(dim=1, keepdim=True).detach())
    features = powers / powers.norm(dim=1, keepdim=True)
    with torch.no_grad():
        targets = (known @ known.T >= 0.9).float()
    return (features @ features.T - targets).square().mean()


def build(options: argparse.Namespace, given: Weights, mode: str | None) -> Step:
    """The subject's step: trains in place, returns the loss before it."""
    images = given["images"].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    if options.subject == "ccnn":
        return _ccnn(options, given, images, mode)
    if options.subject == "ics_shallow":
        network = PooledAutoencoder(options.shape, given)
        adam = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        return _bare(network, adam, images, lambda y: tf.mse_loss(y[1], images), mode)
    if options.subject == "derc":
        network = StridedAutoencoder(options.shape, given)
        adam = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        return _bare(network, adam, images, _derc_loss(given, images), mode)
    if options.subject in {"dec", "idec", "ics"}:
        return _latents(options.subject, options, given, images, mode)
    network = all_conv_net(options.shape[2], given, options.subject != "dac_cifar2")
    rmsprop = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.9)
    if options.subject == "dac":
        return _bare(network, rmsprop, images, lambda y: _pair_loss(y, given["known"]), mode)
    targets = tf.one_hot(torch.arange(options.batch) % K, K).float()
    return _bare(network, rmsprop, images, lambda y: tf.mse_loss(y, targets), mode)


def exact(on: bool) -> None:
    """Full float32 products, or TF32 on tensor cores, which is JAX's default."""
    torch.backends.cuda.matmul.allow_tf32 = not on
    torch.backends.cudnn.allow_tf32 = not on


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """TimeoutError if the block takes longer; 0: no limit."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not compiled after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def several(step: Step, steps: int) -> Callable[[], None]:
    """Many steps, waited for at the end."""

    def run() -> None:
        for _ in range(steps):
            # What a captured graph returned may be overwritten from here on.
            torch.compiler.cudagraph_mark_step_begin()
            step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run


def measure(options: argparse.Namespace) -> None:
    """PyTorch's side: eager and, where a compiler is at hand, compiled."""
    torch.set_num_threads(options.threads)
    cuda = torch.cuda.is_available()
    place = torch.device("cuda" if cuda else "cpu")
    torch.set_default_device(place)
    torch.backends.cudnn.benchmark = True
    with np.load(options.exchange) as arrays:
        given = {name: torch.from_numpy(arrays[name].copy()).to(place) for name in arrays}
    modes: dict[str, str | None] = {"eager": None}
    if options.compile:
        # On a GPU, replaying graphs is PyTorch's best for steps as small as these.
        modes |= {"reduce-overhead": "reduce-overhead"} if cuda else {"compiled": "default"}
    report: dict[str, Any] = {"version": torch.__version__, "failed": {}}
    report["device"] = torch.cuda.get_device_name() if cuda else "cpu"
    runs: dict[str, Callable[[], None]] = {}
    for name, mode in modes.items():
        try:
            exact(name == "eager")
            with within(options.compile_seconds):
                step = build(options, given, mode)
                loss = float(step())
                exact(False)
                runs[name] = several(step, options.steps)
                runs[name]()
        except Exception as error:  # a compiler's own; the other modes are still worth timing
            if name == "eager":
                raise
            report["failed"][name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            runs.pop(name, None)
            continue
        if name == "eager" or not cuda:  # else of TF32
            report["loss" if name == "eager" else f"{name}_loss"] = loss

    def turn() -> dict[str, Any]:
        return {
            name: [seconds / options.steps for seconds in timed(run, options.repeats)]
            for name, run in runs.items()
        }

    serve(report, turn)
