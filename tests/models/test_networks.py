import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.models.autoencoder import Decoder
from jaxclust.models.ccnn import (
    CCNN,
    AlexNetBackbone,
    Body,
    DenseHead,
    FlatHead,
    LeNetBackbone,
    SalientHead,
    local_response,
    unit_length,
)


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
