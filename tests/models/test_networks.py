from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxclust.models.allconvnet import (
    NETWORKS,
    AllConvNet,
    cifar_network_2,
    map_side,
    mnist_network,
)
from jaxclust.models.autoencoder import Decoder, PooledAutoencoder
from jaxclust.models.backbones import AlexNetBackbone, LeNetBackbone, local_response
from jaxclust.models.feature_and_output import CCNN, Body, unit_length
from jaxclust.models.heads import DenseHead, FlatHead, SalientHead


def parameter_shapes(variables):
    return {
        jax.tree_util.keystr(path): leaf.shape
        for path, leaf in jax.tree.flatten_with_path(variables["params"])[0]
    }


def test_lenet_has_the_published_layers():
    network = CCNN(Body(LeNetBackbone(), FlatHead()), 10, 10)
    x = jnp.zeros((2, 28, 28, 1))
    variables = network.init(jax.random.key(0), x, train=False)
    kernels = [s for name, s in parameter_shapes(variables).items() if "kernel" in name]
    expected = [(5, 5, 1, 64), (5, 5, 64, 128), (7 * 7 * 128, 128), (128, 10), (10, 10)]
    assert sorted(kernels) == sorted(expected)


@pytest.mark.parametrize("dense", [False, True])
def test_alexnet_size_networks(dense):
    """Shapes only, by abstract evaluation: the real thing has a hundred million weights."""
    head = DenseHead() if dense else SalientHead((6144, 2048, 50))
    network = CCNN(Body(AlexNetBackbone(), head), 50, 50)
    x = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: network.init(jax.random.key(0), x, train=False), x)
    shapes = list(parameter_shapes(variables).values())
    assert (11, 11, 3, 96) in shapes
    assert (3, 3, 384, 256) in shapes
    if dense:
        assert (6 * 6 * 256, 4096) in shapes
    else:
        assert (3, 3, 256, 6144) in shapes
        assert (3, 3, 6144, 2048) in shapes
        assert (3, 3, 2048, 50) in shapes
    outputs = jax.eval_shape(lambda v, x: network.apply(v, x, train=False), variables, x)
    assert outputs.features.shape == outputs.logits.shape == (2, 50)


def test_salient_head_takes_each_channels_maximum():
    head = SalientHead((4, 3))
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 2))
    variables = head.init(jax.random.key(1), x, False)
    once = head.apply(variables, x, False)
    # Padding the map with its own content elsewhere can only raise a maximum.
    wide = jnp.concatenate([x, x], axis=2)
    assert once.shape == (2, 3)
    assert bool(jnp.all(head.apply(variables, wide, False) >= 0))


def test_local_response_against_a_loop():
    x = jax.random.normal(jax.random.key(0), (1, 1, 1, 7))
    expected = [
        x[0, 0, 0, i] / (2 + 1e-4 * sum(x[0, 0, 0, max(0, i - 2) : i + 3] ** 2)) ** 0.75
        for i in range(7)
    ]
    np.testing.assert_allclose(local_response(x)[0, 0, 0], np.array(expected), rtol=1e-6)


def test_unit_length_has_finite_gradient_at_zero():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(unit_length(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(unit_length(x)))(x)
    assert bool(jnp.all(jnp.isfinite(gradient)))


@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 16, 1), (28, 28, 1), (33, 17, 3), (5, 7, 2)])
def test_decoder_returns_the_exact_image_shape(shape):
    decoder = Decoder(shape)
    code = jnp.ones((3, 4))
    variables = decoder.init(jax.random.key(0), code, train=False)
    assert decoder.apply(variables, code, train=False).shape == (3, *shape)


def test_backbone_features_are_the_maps_mean():
    network = CCNN(Body(LeNetBackbone((3, 4)), FlatHead(5)), 2, 2)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = network.init(jax.random.key(1), x, train=False)
    pooled = network.apply(variables, x, train=False, method="backbone_features")
    assert pooled.shape == (2, 4)


@pytest.mark.parametrize("network", [mnist_network, cifar_network_2])
def test_dac_networks_have_the_published_layers(network):
    shape = (28, 28, 1) if network is mnist_network else (32, 32, 3)
    x = jax.ShapeDtypeStruct((4, *shape), jnp.float32)
    variables = jax.eval_shape(lambda x: network(10).init(jax.random.key(1), x, train=False), x)
    shapes = parameter_shapes(variables)
    kernels = [shape for name, shape in shapes.items() if "kernel" in name]
    widths = [(3, 3, 64, 64)] * 2 + [(3, 3, 64, 128)] + [(3, 3, 128, 128)] * 2
    expected = [(3, 3, shape[2], 64), *widths, (1, 1, 128, 10), (10, 10), (10, 10)]
    assert sorted(kernels) == sorted(expected)
    norms = sum("scale" in name for name in shapes)
    assert norms == (12 if network is mnist_network else 9)
    logits = jax.eval_shape(lambda v, x: network(10).apply(v, x, train=False), variables, x)
    assert logits.shape == (4, 10)


@pytest.mark.parametrize("rectify", [False, True])
def test_dac_head_starts_as_the_identity(rectify):
    network = AllConvNet(5, ((3,),), (3,), rectify_output=rectify)
    x = jax.random.normal(jax.random.key(0), (4, 6, 6, 1))
    variables = jax.jit(partial(network.init, train=False))(jax.random.key(1), x)
    for layer in ("Dense_0", "Dense_1"):
        np.testing.assert_array_equal(variables["params"][layer]["kernel"], np.eye(5))
    run = jax.jit(lambda x: network.apply(variables, x, train=True, mutable=["batch_stats"])[0])
    assert bool(jnp.any(run(x) < 0)) != rectify


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 17, 3), (5, 7, 2)])
@pytest.mark.parametrize("widths", [(4, 6, 8), (2, 3, 4, 5, 6)])
def test_pooled_autoencoder_returns_the_exact_image_shape(shape, widths):
    network = PooledAutoencoder(shape, 7, widths)
    x = jax.ShapeDtypeStruct((3, *shape), jnp.float32)

    def run(x):
        variables = network.init(jax.random.key(0), x, train=False)
        return network.apply(variables, x, train=False)

    coded = jax.eval_shape(run, x)
    assert coded.latent.shape == (3, 7)
    assert coded.decoded.shape == x.shape


def test_pooled_autoencoder_learns_to_copy():
    shades = jax.nn.sigmoid(jax.random.normal(jax.random.key(0), (16, 1, 1, 1)))
    x = jnp.broadcast_to(shades, (16, 4, 4, 1))
    network = PooledAutoencoder((4, 4, 1), 2, (4, 4))
    adam = optax.adam(1e-2)

    def step(carry, _):
        params, stats, opt_state = carry

        def loss(params):
            coded, changed = network.apply(
                {"params": params, "batch_stats": stats}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.mean(jnp.square(coded.decoded - x)), changed["batch_stats"]

        (value, stats_now), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = adam.update(gradients, opt_state)
        return (optax.apply_updates(params, updates), stats_now, opt_state), value

    @jax.jit
    def train():
        variables = network.init(jax.random.key(1), x, train=False)
        params = variables["params"]
        start = (params, variables["batch_stats"], adam.init(params))
        return jax.lax.scan(step, start, length=300)[1]

    losses = train()
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_side_of_the_last_map_is_foretold(name):
    network = NETWORKS[name](4)
    for side in (96, 97, 28, 20):
        if not map_side(network, side):
            continue
        x = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
        _, kept = jax.eval_shape(
            lambda x: network.init_with_output(
                jax.random.key(0), x, train=False, capture_intermediates=True
            ),
            x,
        )
        last = kept["intermediates"][f"Conv_{sum(map(len, network.blocks))}"]["__call__"][0]
        assert last.shape == (1, map_side(network, side), map_side(network, side), 4)
    assert map_side(network, 8) == 0
    assert map_side(network.clone(padding="SAME"), 8) > 0
