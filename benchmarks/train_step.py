"""How fast is a train step: alone, many in one compiled loop, and beside PyTorch?

    python benchmarks/train_step.py --shape 28 28 1 --batch 200

The step is CCNN's of preset `best` without random views: a pass in inference mode,
assignment, the choice of trusted samples, the network's training pass and its
gradients, Adam, the centroid update. PyTorch's side does the same with its own
layers (channels_last, oneDNN) and starts from the same weights; both must report
the same first loss to 1e-4. Each side runs in a process of its own, in turns, so
that their thread pools do not meet.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 10
RESULTS = Path(__file__).parent / "results"


def timed(function: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls, after one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def jax_side(options: argparse.Namespace) -> dict[str, Any]:
    """JAX's figures; writes weights, images and centroids for the other side."""
    import jax
    import jax.numpy as jnp

    from jaxclust import device
    from jaxclust.base import Batch, DataSpec
    from jaxclust.data.augment import Affine
    from jaxclust.methods import ccnn

    b = options.batch
    shape = tuple(options.shape)
    config = ccnn.Config(
        batch_size=b, k_m=4 * b // 5, n_m=4 * b // 5, init="random", views=Affine()
    )
    method = ccnn.build(config, DataSpec(100 * b, shape, K))
    images = jax.random.normal(jax.random.key(0), (b, *shape))
    batch = Batch(images, jnp.arange(b))
    state = device.jit(method.init)(jax.random.PRNGKey(0), images)
    features = device.jit(method.predict)(state, images).features
    begin = method.phases[-1].begin
    assert begin is not None
    state = device.jit(begin)(state, features)
    flat = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.flatten_with_path(state.params["network"])[0]
    }
    np.savez(
        options.exchange,
        images=images,
        centroids=state.cluster.kmeans.centroids,
        counts=state.cluster.kmeans.counts,
        **flat,  # pyright: ignore[reportArgumentType]
    )
    step = device.jit(method.step)
    many = device.jit(
        lambda state: jax.lax.scan(
            lambda s, _: (method.step(s, batch)[0], None), state, None, length=options.steps
        )[0]
    )
    loss = float(step(state, batch)[1].loss)
    alone = timed(lambda: jax.block_until_ready(step(state, batch)), options.repeats)
    inside = timed(lambda: jax.block_until_ready(many(state)), options.repeats)
    return {
        "loss": loss,
        "alone": alone,
        "in_scan": [seconds / options.steps for seconds in inside],
        "version": jax.__version__,
    }


def torch_side(options: argparse.Namespace) -> dict[str, Any]:
    """PyTorch's figures, from the weights that JAX's side wrote."""
    import torch
    from torch import nn
    from torch.nn import functional as tf

    torch.set_num_threads(options.threads)
    with np.load(options.exchange) as arrays:
        given = {name: torch.from_numpy(arrays[name].copy()) for name in arrays}

    def weight(*path: str) -> torch.Tensor:
        return given["".join(f"['{part}']" for part in path)]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            channels = options.shape[2]
            flat = -(-options.shape[0] // 4) * -(-options.shape[1] // 4) * 128
            self.convs = nn.ModuleList(
                [nn.Conv2d(i, o, 5, padding=2, bias=False) for i, o in ((channels, 64), (64, 128))]
            )
            self.norms = nn.ModuleList([nn.BatchNorm2d(64), nn.BatchNorm2d(128)])
            self.hidden = nn.Linear(flat, 128, bias=False)
            self.hidden_norm = nn.BatchNorm1d(128)
            self.feature, self.output = nn.Linear(128, K), nn.Linear(K, K)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            for conv, norm in zip(self.convs, self.norms, strict=True):
                x = tf.max_pool2d(tf.relu(norm(conv(x))), 2, ceil_mode=True)
            x = x.permute(0, 2, 3, 1).flatten(1)
            h = tf.normalize(self.feature(tf.relu(self.hidden_norm(self.hidden(x)))))
            return h, self.output(h)

    network = Network()
    with torch.no_grad():
        for i, conv in enumerate(network.convs):
            kernel = weight("body", "backbone", f"Conv_{i}", "kernel")
            assert isinstance(conv, nn.Conv2d)
            conv.weight.copy_(kernel.permute(3, 2, 0, 1))
        network.hidden.weight.copy_(weight("body", "head", "Dense_0", "kernel").T)
        for layer, name in ((network.feature, "feature"), (network.output, "output")):
            layer.weight.copy_(weight(name, "kernel").T)
            layer.bias.copy_(weight(name, "bias"))
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    images = given["images"].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), lr=3e-4, fused=True)
    centroids, counts = given["centroids"], given["counts"]
    trusted = 4 * options.batch // 5

    def step() -> float:
        nonlocal centroids, counts
        network.eval()
        with torch.inference_mode():
            h, _ = network(images)
            distances = torch.cdist(h, centroids).square()
            nearest, labels = distances.min(dim=1)
            member = tf.one_hot(labels, K).float()
            same = labels[:, None] == labels[None]
            rank = (same & (nearest[None] < nearest[:, None])).sum(dim=1)
            chosen = torch.argsort(rank + nearest / (nearest.max() + 1))[:trusted].clone()
        targets = tf.one_hot(labels[chosen], K).float()
        network.train()
        adam.zero_grad(set_to_none=True)
        _, logits = network(images[chosen])
        loss = 0.5 * (torch.softmax(logits, dim=1) - targets).square().sum(dim=1).mean()
        loss.backward()
        adam.step()
        with torch.inference_mode():
            added = member.sum(dim=0)
            sums = counts[:, None] * centroids + member.T @ h
            moved = sums / (counts + added).clamp(min=1e-12)[:, None]
            centroids = torch.where(added[:, None] > 0, moved, centroids)
            counts = (counts + added).clamp(max=50)
        return float(loss)

    loss = step()
    return {"loss": loss, "eager": timed(step, options.repeats), "version": torch.__version__}


def run_side(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """One side in a process of its own."""
    call = [sys.executable, __file__, "--side", side, *options.passed]
    done = subprocess.run(call, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and range in milliseconds."""
    milliseconds = [1e3 * value for value in seconds]
    return {
        "median_ms": round(statistics.median(milliseconds), 2),
        "min_ms": round(min(milliseconds), 2),
        "max_ms": round(max(milliseconds), 2),
    }


def main() -> None:
    """Measure, print a table, write benchmarks/results/."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", type=int, nargs=3, default=[28, 28, 1])
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--steps", type=int, default=5, help="steps in the compiled loop")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="turns of both sides")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--side", choices=["jax", "torch"], help=argparse.SUPPRESS)
    parser.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side = jax_side if options.side == "jax" else torch_side
        print(json.dumps(side(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.passed = [*sys.argv[1:], "--exchange", f"{folder}/exchange.npz"]
        rounds = [
            (run_side("jax", options), run_side("torch", options)) for _ in range(options.rounds)
        ]
    ours, theirs = rounds[0]
    if abs(ours["loss"] - theirs["loss"]) > 1e-4:
        raise SystemExit(f"the sides differ: loss {ours['loss']} and {theirs['loss']}")
    figures = {
        "jax, one step": [s for j, _ in rounds for s in j["alone"]],
        "jax, in a scan": [s for j, _ in rounds for s in j["in_scan"]],
        "torch, eager": [s for _, t in rounds for s in t["eager"]],
    }
    rows = {name: summary(seconds) for name, seconds in figures.items()}
    alone, scanned, eager = (row["median_ms"] for row in rows.values())
    report = {
        "benchmark": "train_step",
        "method": "ccnn",
        "network": "lenet",
        "shape": options.shape,
        "batch": options.batch,
        "loss": {"jax": ours["loss"], "torch": theirs["loss"]},
        "step": rows,
        "throughput_ratios": {
            "in a scan / alone": round(alone / scanned, 3),
            "in a scan / torch eager": round(eager / scanned, 3),
        },
        "images_per_second_in_a_scan": round(options.batch / scanned * 1e3, 1),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "versions": {"jax": ours["version"], "torch": theirs["version"]},
        "command": " ".join(["python", "benchmarks/train_step.py", *sys.argv[1:]]),
    }
    for name, row in rows.items():
        print(f"{name:16}{row['median_ms']:9.1f} ms  ({row['min_ms']:.1f} to {row['max_ms']:.1f})")
    for name, ratio in report["throughput_ratios"].items():
        print(f"throughput {name}: {ratio}")
    RESULTS.mkdir(exist_ok=True)
    size = "x".join(str(side) for side in options.shape)
    path = RESULTS / f"train_step-ccnn-lenet-{size}-b{options.batch}-cpu.json"
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
