"""A CCNN small enough to compile and run in a second, shared by the tests."""

import dataclasses

import jax
import numpy as np

from jaxclust.core.types import Batch
from jaxclust.images.normalisation import measure
from jaxclust.methods import ccnn
from jaxclust.models.backbones import LeNetBackbone
from jaxclust.models.feature_and_output import Body
from jaxclust.models.heads import FlatHead
from jaxclust.training import placement, starting
from jaxclust.training.prediction import predictor


def images(n=120, seed=0):
    """Three kinds of 8x8 picture: a bar on the left, in the middle, on the right; noisy."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    pictures = rng.integers(0, 60, (n, 8, 8, 1))
    for i, kind in enumerate(kinds):
        pictures[i, :, 3 * kind : 3 * kind + 2] += 180
    return pictures.clip(0, 255).astype(np.uint8), kinds


def data(n=120, seed=0):
    pictures, _ = images(n, seed)
    return placement.put(pictures, measure(pictures))


def method(preset="best", n=120, k=3, **changes):
    defaults = {
        "starts": 1,
        "epochs": 2,
        "pretrain_epochs": 1,
        "batch_size": 20,
        "k_m": 5,
        "n_m": 10,
    }
    config = dataclasses.replace(ccnn.PRESETS[preset], **{**defaults, **changes})
    spec = placement.spec_of(data(n), k)
    return ccnn.build(config, spec, body=Body(LeNetBackbone((4, 8)), FlatHead(16)))


def batch(n=20, seed=3):
    normal = jax.random.normal(jax.random.key(seed), (n, 8, 8, 1))
    return Batch(normal, np.arange(n, dtype=np.int32))


def begun(built, seed=0):
    """The state at the start of the clustering phase."""
    state = starting.init(built, data(), seed)
    features = predictor(built, data())(state).features
    return jax.jit(built.phases[-1].first.update)(state, features)
