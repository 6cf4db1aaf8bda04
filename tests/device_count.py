"""A method's steps on eight virtual CPU devices beside the same steps on one.

    python -m tests.device_count METHOD {float32,float64} STEPS

Run by test_device_count.py in a process of its own, since both settings must stand
before JAX starts. Prints, as JSON, how far every leaf of the state differs, as a
fraction of its norm and of its largest entry.
"""

import json
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.base import Batch, Compute, DataSpec
from jaxclust.methods import dac
from jaxclust.models.allconvnet import AllConvNet

DEVICES, N, K = 8, 48, 3


def dac_method(axis_name):
    network = AllConvNet(K, ((8,), (8,)), padding="SAME", normalise_pools=True, axis_name=axis_name)
    config = dac.Config(
        draw_size=48,
        batch_size=16,
        inner_passes=2,
        loss="bce",
        upper=(0.95, 0.7),
        lower=(0.6, 0.7),
        self_label_weight=1.0,
    )
    spec = DataSpec(N, (8, 8, 1), K)
    return dac.build(config, spec, Compute(axis_name=axis_name), network=network)


METHODS = {"dac": dac_method}


def widened(tree, dtype):
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def main():
    name, dtype, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    jax.config.update("jax_enable_x64", dtype == "float64")
    assert jax.local_device_count() == DEVICES
    images = jax.random.normal(jax.random.PRNGKey(3), (N, 8, 8, 1), jnp.float32).astype(dtype)
    batch = Batch(images, jnp.arange(N, dtype=jnp.int32))
    alone, shared = METHODS[name](None), METHODS[name]("devices")
    start = widened(alone.init(jax.random.PRNGKey(0), images[:2]), dtype)
    one, step = start, jax.jit(alone.step)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * DEVICES), start)
    mapped = jax.pmap(shared.step, axis_name="devices", in_axes=(0, None))
    losses = []
    for _ in range(steps):
        one, first = step(one, batch)
        many, second = jax.block_until_ready(mapped(many, batch))
        losses.append([float(first.loss), *np.asarray(second.loss, float).tolist()])
    report = {"losses": losses, "leaves": {}}
    leaves = jax.tree.flatten_with_path(one)[0]
    for (path, a), b in zip(leaves, jax.tree.leaves(many), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert all(np.array_equal(b[0], other) for other in b), f"{path}: devices differ"
        report["leaves"][jax.tree_util.keystr(path)] = {
            "difference": float(np.abs(a - b[0]).max()),
            "largest": float(np.abs(a).max()),
            "distance": float(np.linalg.norm(a - b[0])),
            "norm": float(np.linalg.norm(a)),
        }
    labels = [
        np.asarray(alone.predict(jax.tree.map(jnp.asarray, state), images).assignments)
        for state in (one, jax.tree.map(lambda leaf: leaf[0], many))
    ]
    report["same_assignments"] = bool(np.array_equal(*labels))
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), start.params, one.params)
    report["moved"] = max(jax.tree.leaves(moved))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
