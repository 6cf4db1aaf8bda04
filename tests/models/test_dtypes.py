"""Every network under 64-bit defaults, strict promotion and another kind of random keys."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import pytest

from jaxclust.models import allconvnet, autoencoders, precision
from jaxclust.models.autoencoder import Decoder
from jaxclust.models.backbones import AlexNetBackbone, LeNetBackbone
from jaxclust.models.encoders.mobilenet import MobileNetV1
from jaxclust.models.encoders.torchvision_networks import VGG16, AlexNet, ResNet
from jaxclust.models.feature_and_output import CCNN, Body
from jaxclust.models.heads import DenseHead, FlatHead, PooledHead, SalientHead
from tests.strict import assert_strong, strict_x64

SMALL, LARGE = (3, 8, 8, 1), (2, 64, 64, 3)


def ccnn(head, **options):
    return CCNN(Body(LeNetBackbone((4, 6)), head, **options), 4, 3, unit=True)


NETWORKS = {
    "flat head": (ccnn(FlatHead(5)), SMALL),
    "salient head": (ccnn(SalientHead((5, 3))), SMALL),
    "dense head": (ccnn(DenseHead(5)), SMALL),
    "pooled head": (ccnn(PooledHead(), frozen_statistics=True), SMALL),
    "AlexNet from nothing": (AlexNetBackbone(), (2, 67, 67, 3)),
    "decoder": (Decoder((9, 7, 2), 8), (3, 4)),
    "AllConvNet": (allconvnet.AllConvNet(4, ((3,), (4,)), padding="SAME"), SMALL),
    "MNIST's AllConvNet": (allconvnet.mnist_network(4), (2, 28, 28, 1)),
    "AlexNet": (AlexNet(), LARGE),
    "VGG-16": (VGG16(), LARGE),
    "ResNet-18": (ResNet(), LARGE),
    "bottlenecks": (ResNet(depths=(1, 1, 1, 1), bottleneck=True), LARGE),
    "MobileNet": (MobileNetV1(width=0.25), LARGE),
    **{
        f"{name} autoencoder": (build(shape[1:], 3), shape)
        for name, build in autoencoders.NETWORKS.items()
        for shape in [(2, 37, 37, 1) if name == "strided_valid" else (2, 9, 13, 1)]
    },
}
# Compiled and run; of the others only shapes and dtypes are evaluated.
RUN = ("flat head", "salient head", "AllConvNet", "variational autoencoder", "strided autoencoder")


def initial(network, x):
    return network.init(jax.random.key(1), x, train=False)


def step(network, variables, x, how="float32"):
    """A training pass, its gradients and a prediction."""
    stats = {name: value for name, value in variables.items() if name != "params"}
    rngs = {"dropout": jax.random.key(2), "latent": jax.random.key(3)}

    def loss(params):
        outputs, changed = precision.apply(
            network,
            {**stats, "params": params},
            x,
            precision=how,
            train=True,
            mutable=["batch_stats"],
            rngs=rngs,
        )
        total = sum(jnp.mean(jnp.square(leaf)) for leaf in jax.tree.leaves(outputs))
        return total, (outputs, changed)

    seen = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return seen, precision.apply(network, variables, x, precision=how, train=False)


@pytest.mark.parametrize("how", ["float32", "bfloat16"])
@pytest.mark.parametrize("prng", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("name", NETWORKS)
def test_float32_whatever_jaxs_defaults_are(name, prng, how):
    network, shape = NETWORKS[name]
    with strict_x64(prng):
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        variables = jax.eval_shape(partial(initial, network), x)
        assert_strong(variables)
        (value, gradients), predicted = jax.eval_shape(
            partial(step, network, how=how), variables, x
        )
        assert_strong((value, predicted))
        chex.assert_trees_all_equal_shapes_and_dtypes(gradients, variables["params"])
        _, (_, changed) = value
        if "batch_stats" in variables:
            chex.assert_trees_all_equal_shapes_and_dtypes(
                changed["batch_stats"], variables["batch_stats"]
            )


@pytest.mark.parametrize("name", RUN)
def test_numbers_are_those_of_jaxs_usual_defaults(name):
    network, shape = NETWORKS[name]

    def run():
        x = jax.random.normal(jax.random.key(0), shape, jnp.float32)
        variables = jax.jit(partial(initial, network))(x)
        return variables, jax.jit(partial(step, network))(variables, x)

    variables, seen = run()
    with strict_x64():
        strict_variables, strictly_seen = run()
    chex.assert_trees_all_equal(strict_variables, variables)
    chex.assert_trees_all_close(strictly_seen, seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_widened_is_computed_in_float64(name):
    network, shape = NETWORKS[name]
    with strict_x64():
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        variables = jax.eval_shape(partial(initial, network), x)

        def run(variables, x):
            return step(network, *precision.cast((variables, x), jnp.float64))

        assert_strong(jax.eval_shape(run, variables, x), jnp.float64)


@pytest.mark.parametrize("name", ["flat head", "AllConvNet", "strided autoencoder", "MobileNet"])
def test_float64_images_start_float32_parameters(name):
    """And the pass through them is float64; tests/training/device_count.py starts so."""
    network, shape = NETWORKS[name]
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct(shape, jnp.float64)
        variables = jax.eval_shape(partial(initial, network), x)
        assert_strong(variables)
        ((_, (outputs, changed)), gradients), _ = jax.eval_shape(
            partial(step, network), variables, x
        )
        assert_strong(outputs, jnp.float64)
        assert_strong((changed, gradients))
