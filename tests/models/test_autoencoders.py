import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.models.autoencoder import StridedAutoencoder, VariationalAutoencoder
from jaxclust.models.autoencoders import NETWORKS
from jaxclust.models.layers import ConvTranspose
from jaxclust.models.sparse_autoencoder import SparseAutoencoder
from jaxclust.models.what_where import WhatWhereAutoencoder

SHAPES = [(8, 8, 1), (16, 16, 1), (28, 28, 1), (33, 17, 3)]


def abstract(network, x):
    def run(x):
        variables = network.init(jax.random.key(0), x, train=False)
        return variables["params"], network.apply(variables, x, train=False)

    return jax.eval_shape(run, x)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"strided_valid"}))
@pytest.mark.parametrize("shape", SHAPES)
def test_images_are_decoded_to_their_exact_shape(name, shape):
    x = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    _, coded = abstract(NETWORKS[name](shape, 7), x)
    places = -(-shape[0] // 4) * -(-shape[1] // 4) if name == "what_where" else 1
    assert coded.latent.shape == (2, 7 * places)
    assert coded.decoded.shape == x.shape


@pytest.mark.parametrize("side", [37, 38, 41, 64])
def test_without_padding_too(side):
    x = jax.ShapeDtypeStruct((2, side, side + 1, 1), jnp.float32)
    _, coded = abstract(NETWORKS["strided_valid"](x.shape[1:], 7), x)
    assert coded.decoded.shape == x.shape


def test_the_strided_network_has_table_iis_layers():
    x = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    params, _ = abstract(StridedAutoencoder((28, 28, 1)), x)
    kernels = [params[f"down_{i}"]["kernel"].shape for i in range(6)]
    widths = [16, 16, 32, 128, 256, 32]
    assert kernels == [(3, 3, i, o) for i, o in zip([1, *widths], widths, strict=False)]
    assert params["to_latent"]["kernel"].shape == (4 * 4 * 32, 10)
    assert [params[f"up_{i}"]["kernel"].shape[3] for i in range(6)] == [256, 128, 32, 16, 16, 1]


def test_the_dense_network_has_decs_layers():
    params, _ = abstract(
        NETWORKS["dense"]((28, 28, 1), 10), jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    )
    sizes = [params[name]["kernel"].shape for name in ("down_0", "down_1", "down_2", "to_latent")]
    assert sizes == [(784, 500), (500, 500), (500, 2000), (2000, 10)]


def test_the_variational_latent_is_sampled_in_training_only():
    network = VariationalAutoencoder((8, 8, 1), 3, (4,))
    x = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    variables = jax.jit(lambda: network.init(jax.random.key(1), x, train=False))()

    @jax.jit
    def run(key):
        return network.apply(
            variables, x, train=True, rngs={"latent": key}, mutable=["batch_stats"]
        )[0]

    first, second = run(jax.random.key(2)), run(jax.random.key(3))
    np.testing.assert_array_equal(first.latent, second.latent)
    assert not np.array_equal(first.decoded, second.decoded)
    still = network.apply(variables, x, train=False)
    np.testing.assert_array_equal(still.decoded, network.apply(variables, x, train=False).decoded)
    assert np.all(np.asarray(first.penalty) >= 0)


def test_the_variational_penalty_is_the_gaussians_divergence():
    """Against the integral by samples, for one latent."""
    network = VariationalAutoencoder((4, 4, 1), 1, (2,))
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 1))
    variables = network.init(jax.random.key(1), x, train=False)
    params = jax.tree.map(jnp.zeros_like, variables["params"])
    mean, log_variance = 0.7, -0.4
    params["to_latent"]["bias"] = jnp.array([mean])
    params["to_log_variance"]["bias"] = jnp.array([log_variance])
    coded = network.apply({**variables, "params": params}, x, train=False)
    scale = np.exp(0.5 * log_variance)
    z = mean + scale * np.random.default_rng(0).normal(size=400_000)
    ours = -0.5 * np.square((z - mean) / scale) - np.log(scale)
    expected = np.mean(ours + 0.5 * np.square(z))
    np.testing.assert_allclose(coded.penalty, expected, rtol=0.02)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_conv_transpose_layer_is_flaxs(strides, padding):
    import flax.linen as nn

    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    theirs = nn.ConvTranspose(4, (3, 3), strides, padding)
    ours = ConvTranspose(4, (3, 3), strides, padding)
    variables = theirs.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, ours.init(jax.random.key(1), x)
    )

    def loss(layer, variables):
        return jnp.sum(jnp.square(layer.apply(variables, x)))

    expected = jax.jit(jax.value_and_grad(lambda v: loss(theirs, v)))(variables)
    found = jax.jit(jax.value_and_grad(lambda v: loss(ours, v)))(variables)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_sparse_penalty_is_of_the_units_mean_activity():
    """Ng's lecture notes: beta sum_j KL(rho || mean activity of j), where an error has a half."""
    network = SparseAutoencoder((3, 3, 1), 5, activity=0.1, weight=2.0)
    x = jax.random.normal(jax.random.key(0), (6, 3, 3, 1))
    variables = network.init(jax.random.key(1), x, train=False)
    coded = network.apply(variables, x, train=False)
    layer = jax.tree.map(np.asarray, variables["params"]["to_latent"])
    active = 1 / (1 + np.exp(-(np.asarray(x).reshape(6, 9) @ layer["kernel"] + layer["bias"])))
    np.testing.assert_allclose(coded.latent, active, rtol=1e-5)
    mean = active.mean(axis=0)
    divergence = sum(0.1 * np.log(0.1 / m) + 0.9 * np.log(0.9 / (1 - m)) for m in mean)
    np.testing.assert_allclose(coded.penalty, np.full(6, 2 * divergence), rtol=1e-4)


def test_the_what_where_penalty_is_of_the_maps_between_its_levels():
    network = WhatWhereAutoencoder((8, 8, 1), (2, 3))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = network.init(jax.random.key(1), x, train=False)
    coded = network.apply(variables, x, train=False)

    def read(net, x):
        first = jax.nn.relu(net.down_norms[0](pooled(net.down[0](x)), True))
        convolved = net.down[1](first)
        second = jax.nn.relu(net.down_norms[1](pooled(convolved), True))
        places = convolved == enlarged(pooled(convolved))
        back = net.up[0](jnp.where(places, enlarged(second), 0))
        return first, second, jax.nn.relu(net.up_norms[0](back, True))

    def pooled(maps):
        b, h, w, c = maps.shape
        return maps.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))

    def enlarged(maps):
        return jnp.repeat(jnp.repeat(maps, 2, axis=1), 2, axis=2)

    first, second, back = network.apply(variables, x, method=read)
    np.testing.assert_allclose(coded.latent, second.reshape(2, -1), rtol=1e-5)
    apart = np.square(np.asarray(back) - first).reshape(2, -1).mean(axis=1)
    np.testing.assert_allclose(coded.penalty, 0.1 * 64 * apart, rtol=1e-4)


@pytest.mark.parametrize("side", [8, 7])
def test_the_decoder_puts_values_where_the_maxima_were(side):
    """One level, read a second time in loops over windows."""
    network = WhatWhereAutoencoder((side, side, 1), (2,))
    x = jax.random.normal(jax.random.key(0), (2, side, side, 1))
    variables = network.init(jax.random.key(1), x, train=False)
    coded = network.apply(variables, x, train=False)
    convolved = np.asarray(network.apply(variables, x, method=lambda net, x: net.down[0](x)))
    half = -(-side // 2)
    values = np.asarray(coded.latent).reshape(-1, half, half, 2)
    placed = np.zeros_like(convolved)
    for b, i, j, c in np.ndindex(values.shape):
        window = convolved[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = np.unravel_index(window.argmax(), window.shape)
        placed[b, 2 * i + row, 2 * j + column, c] = values[b, i, j, c]
    decoded = network.apply(variables, placed, method=lambda net, z: net.up[0](z))
    np.testing.assert_allclose(coded.decoded, decoded, rtol=1e-4, atol=1e-5)
    assert np.count_nonzero(placed) <= values.size
    np.testing.assert_array_equal(
        coded.latent, network.apply(variables, x, train=False, method="encode")
    )
