"""A method's steps on eight virtual CPU devices beside the same steps on one.

    python -m tests.training.device_count METHOD {float32,float64} STEPS

Run by test_device_count.py in a process of its own, since both settings must stand
before JAX starts. Prints, as JSON, how far every leaf of the state differs, as a
fraction of its norm and of its largest entry.
"""

import dataclasses
import json
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
# Devices waiting for each other hold a thread each: the others' work must find some left.
os.environ["NPROC"] = os.environ["PJRT_NPROC"] = "32"

import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.core.keys import host_arrays
from jaxclust.core.types import Batch, Compute, DataSpec
from jaxclust.methods import ccnn, dac, dec, derc, ics
from jaxclust.methods.registry import METHODS as REGISTERED
from jaxclust.models.allconvnet import AllConvNet
from jaxclust.models.autoencoder import (
    PooledAutoencoder,
    StridedAutoencoder,
    VariationalAutoencoder,
)
from jaxclust.models.backbones import LeNetBackbone
from jaxclust.models.feature_and_output import Body
from jaxclust.models.heads import DenseHead

DEVICES, N, K = 8, 48, 3
SPEC = DataSpec(N, (8, 8, 1), K)


def dac_method(axis_name):
    network = AllConvNet(K, ((8,), (8,)), padding="SAME", normalise_pools=True, axis_name=axis_name)
    config = dac.Config(
        draw_size=48,
        batch_size=16,
        inner_passes=2,
        # Cross-entropy of similarities near one is no fair test of float32.
        loss="squared_error",
        upper=(0.95, 0.7),
        lower=(0.6, 0.7),
        self_label_weight=1.0,
    )
    return dac.build(config, SPEC, Compute(axis_name=axis_name), network=network)


def of_family(name, network, **changes):
    """DEC's family or DERC, on a small network."""

    def method(axis_name):
        config = dataclasses.replace(REGISTERED[name].config("best"), latent_width=3, **changes)
        build = {"ics": ics.build, "derc": derc.build}.get(name, dec.build)
        small = network((8, 8, 1), 3, (4, 6), axis_name=axis_name)
        return build(config, SPEC, Compute(axis_name=axis_name), network=small)

    return method


def strided(shape, latent_width, widths, axis_name):
    return StridedAutoencoder(shape, latent_width, widths, (1, 2), axis_name=axis_name)


def ccnn_method(axis_name):
    body = Body(LeNetBackbone((4, 6), axis_name), DenseHead(12, 0.5, axis_name))
    config = dataclasses.replace(
        ccnn.PRESETS["best"],
        batch_size=48,
        k_m=16,
        n_m=32,
        pretrain_epochs=0,
        rollback_path="explicit",
        learning_rate=3e-3,
        centroid_update="minibatch",
    )
    return ccnn.build(config, SPEC, Compute(axis_name=axis_name), body=body)


def registered(name, **changes):
    """A method with its own network."""

    def method(axis_name):
        config = dataclasses.replace(REGISTERED[name].config("best"), **changes)
        return REGISTERED[name].build(config, SPEC, Compute(axis_name=axis_name))

    return method


METHODS = {
    "depict": registered("depict"),
    "dcn": registered("dcn"),
    "gan_kmeans": registered("gan_kmeans", width=4, learning_rate=1e-2),
    "imsat": registered("imsat", widths=(8, 8)),
    "jule": registered("jule"),
    "minibatch_kmeans": registered("minibatch_kmeans", epochs=5),
    "ccnn": ccnn_method,
    "dac": dac_method,
    "idec": of_family("idec", PooledAutoencoder),
    "ics": of_family("ics", PooledAutoencoder, augments=2, entropy_weight=1.0, triplet_weight=1.0),
    "derc": of_family("derc", strided, reducer="pca", restarts=1),
    # Its last phase takes no step: pre-training is what is compared.
    "vae_kmeans": of_family("vae_kmeans", VariationalAutoencoder),
    "denoising_ae_kmeans": of_family("denoising_ae_kmeans", PooledAutoencoder),
}


def start_of(method, images):
    """The state at the start of the phase whose steps are compared, and that phase.

    The first that begins with a clustering, or else the first.
    """
    phases = method.phases
    # Step by step each operation would be a program of its own, slow to compile.
    state = widened(jax.jit(method.init)(jax.random.key(0), images[:2]), images.dtype)
    phase = next((phase for phase in phases if phase.step and phase.first), phases[0])
    if phase.first:
        features = jax.jit(method.predict)(state, images).features
        if phase.first.sees == "images":
            features = images.reshape(N, -1)
        if phase.first.on == "host":
            state = phase.first.update(state, np.asarray(features))
        else:
            state = jax.jit(phase.first.update)(state, features)
    return jax.tree.map(jnp.asarray, state), phase


def widened(tree, dtype):
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def main():
    name, dtype, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    jax.config.update("jax_enable_x64", dtype == "float64")
    assert jax.local_device_count() == DEVICES
    images = jax.random.normal(jax.random.key(3), (N, 8, 8, 1), jnp.float32).astype(dtype)
    batch = Batch(images, jnp.arange(N, dtype=jnp.int32))
    alone, shared = METHODS[name](None), METHODS[name]("devices")
    start, phase = start_of(alone, images)
    start = widened(start, dtype)
    part, axis = batch, None
    if phase.batches.split == "batch":
        part, axis = jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch), 0
    shared_step = next(other.step for other in shared.phases if other.name == phase.name)
    one, step = start, jax.jit(phase.step)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * DEVICES), start)
    mapped = jax.pmap(shared_step, axis_name="devices", in_axes=(0, axis))
    losses = []
    for _ in range(steps):
        one, first = step(one, batch)
        many, second = jax.block_until_ready(mapped(many, part))
        losses.append([float(first.loss), *np.asarray(second.loss, float).tolist()])
    report = {"losses": losses, "leaves": {}}
    leaves = jax.tree.flatten_with_path(host_arrays(one))[0]
    for (path, a), b in zip(leaves, jax.tree.leaves(host_arrays(many)), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert all(np.array_equal(b[0], other) for other in b), f"{path}: devices differ"
        leaf_name = jax.tree_util.keystr(path)
        if ".nu" in leaf_name:
            # The optimiser's mean of squared gradients, as a size of gradients.
            a, b = np.sqrt(a), np.sqrt(b)
        report["leaves"][leaf_name] = {
            "difference": float(np.abs(a - b[0]).max()),
            "largest": float(np.abs(a).max()),
            "distance": float(np.linalg.norm(a - b[0])),
            "norm": float(np.linalg.norm(a)),
        }
    predict = jax.jit(alone.predict)
    labels = [
        np.asarray(predict(jax.tree.map(jnp.asarray, state), images).assignments)
        for state in (one, jax.tree.map(lambda leaf: leaf[0], many))
    ]
    report["same_assignments"] = bool(np.array_equal(*labels))
    learnt = [state.params or state.cluster for state in (start, one)]  # k-means has no network
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *learnt)
    report["moved"] = max(jax.tree.leaves(moved))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
