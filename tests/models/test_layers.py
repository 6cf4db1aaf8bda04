import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxclust.core import device
from jaxclust.models import layers
from jaxclust.models._cpu import convolution, depthwise

NUMBERS = ("NHWC", "HWIO", "NHWC")


def close(actual, expected, tolerance=2e-5):
    assert actual.shape == expected.shape
    scale = max(1.0, float(jnp.max(jnp.abs(expected), initial=0)))
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale, rtol=0)


def compare(reference, own, *arrays):
    """Values and gradients of two functions, each compiled as one program."""

    def with_gradients(function):
        def run(*arrays):
            y, vjp = jax.vjp(function, *arrays)
            return y, vjp(jax.random.normal(jax.random.key(2), y.shape))

        return jax.jit(run)(*arrays)

    jax.tree.map(close, with_gradients(own), with_gradients(reference))


SHAPES = [
    (size, window, strides, padding, channels)
    for size, window, strides, padding, channels in itertools.product(
        [(8, 8), (7, 9), (4, 3)],
        [(1, 1), (3, 3), (5, 2)],
        [(1, 1), (2, 2), (3, 1)],
        ["SAME", "VALID", ((2, 1), (0, 3)), ((4, 4), (5, 5))],
        [1, 5],
    )
    if padding != "VALID" or all(k <= n for k, n in zip(window, size, strict=True))
]


@pytest.mark.parametrize(("size", "window", "strides", "padding", "channels"), SHAPES[::11])
def test_convolution_and_gradients_equal_xla(size, window, strides, padding, channels):
    x = jax.random.normal(jax.random.key(0), (3, *size, channels))
    kernel = jax.random.normal(jax.random.key(1), (*window, channels, 4))

    def reference(x, kernel):
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=NUMBERS)

    compare(reference, lambda x, k: layers.conv2d(x, k, strides, padding), x, kernel)


@pytest.mark.parametrize("padding", ["SAME", "VALID", ((2, 1), (0, 3))])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 7), (7, 6)])
def test_depthwise_convolution_and_gradients_equal_a_grouped_one(size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (3, *size, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 5))

    def grouped(x, kernel):
        return lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            (stride, stride),
            padding,
            dimension_numbers=NUMBERS,
            feature_group_count=5,
        )

    compare(grouped, lambda x, k: depthwise.depthwise_conv2d(x, k, stride, padding), x, kernel)


def test_depthwise_gradients_of_many_images_hold_in_bfloat16():
    """Summed an image at a time, ones stop growing at 256 in bfloat16."""
    x, kernel = jnp.ones((600, 3, 3, 2), jnp.bfloat16), jnp.ones((3, 3, 2), jnp.bfloat16)

    def total(kernel):
        y = depthwise.depthwise_conv2d(x, kernel, padding="VALID")
        return jnp.sum(y, dtype=jnp.float32)

    gradient = jax.jit(jax.grad(total))(kernel)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient.astype(np.float32), 600, rtol=0.01)


POOLS = list(
    itertools.product(
        [(6, 6), (7, 5)],
        [(2, 2), (3, 3), (3, 2)],
        [(1, 1), (2, 2), (3, 2)],
        ["SAME", "VALID", ((1, 1), (1, 0))],
    )
)


@pytest.mark.parametrize(("size", "window", "strides", "padding"), POOLS[::7])
def test_max_pool_and_gradient_equal_flax_on_ties(size, window, strides, padding):
    # Few distinct values, half of them zero as after ReLU: ties everywhere.
    x = jax.nn.relu(jnp.round(2 * jax.random.normal(jax.random.key(0), (3, *size, 4))))
    compare(
        lambda x: nn.max_pool(x, window, strides, padding),
        lambda x: layers.max_pool(x, window, strides, padding),
        x,
    )


def test_conv_layer_equals_flax():
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 3))
    own = layers.Conv(6, (3, 3), (2, 2), "VALID")
    flax = nn.Conv(6, (3, 3), (2, 2), "VALID")
    variables = flax.init(jax.random.key(1), x)
    assert jax.tree.structure(own.init(jax.random.key(1), x)) == jax.tree.structure(variables)
    close(own.apply(variables, x), flax.apply(variables, x))


def test_gradients_inside_scan_equal_those_outside():
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
    kernel = 0.1 * jax.random.normal(jax.random.key(1), (3, 3, 3, 3))

    def step(kernel):
        def loss(kernel):
            return jnp.mean(jnp.square(layers.max_pool(layers.conv2d(x, kernel)) - 1))

        return kernel - 0.1 * jax.grad(loss)(kernel)

    scanned, _ = jax.jit(lambda k: lax.scan(lambda k, _: (step(k), None), k, length=3))(kernel)
    close(scanned, step(step(step(kernel))), 1e-5)


def test_vmap_over_kernels():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    kernels = jax.random.normal(jax.random.key(1), (2, 3, 3, 3, 4))

    def gradient(kernel):
        return jax.grad(lambda k: jnp.sum(jnp.square(layers.conv2d(x, k))))(kernel)

    mapped = jax.vmap(gradient)(kernels)
    for one, kernel in zip(mapped, kernels, strict=True):
        close(one, gradient(kernel))


def test_upsample_repeats_every_pixel():
    x = jnp.arange(12.0).reshape(1, 2, 3, 2)
    expected = np.repeat(np.repeat(np.asarray(x), 3, axis=1), 3, axis=2)
    np.testing.assert_array_equal(layers.upsample(x, 3), expected)


TRANSPOSED = list(
    itertools.product(
        [(5, 4), (1, 3)],
        [(3, 3), (2, 5), (4, 1)],
        [(2, 2), (1, 3), (3, 2), (1, 1)],
        ["SAME", "VALID", ((2, 3), (4, 4))],
    )
)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(("size", "window", "strides", "padding"), TRANSPOSED[::7])
def test_transposed_convolution_and_gradients_equal_xla(
    size, window, strides, padding, backend, monkeypatch
):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    kernel = jax.random.normal(jax.random.key(1), (*window, 3, 4))
    compare(
        lambda x, k: lax.conv_transpose(x, k, strides, padding, dimension_numbers=NUMBERS),
        lambda x, k: layers.conv_transpose2d(x, k, strides, padding),
        x,
        kernel,
    )


def test_no_gradient_on_accelerators_has_a_window_as_large_as_the_map(monkeypatch):
    """XLA knows a kernel's gradient by its form; with inserted zeros in the map it does not."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel = jnp.ones((2, 14, 14, 3)), jnp.ones((3, 3, 3, 4))

    def loss(x, kernel):
        return jnp.sum(jnp.square(layers.conv_transpose2d(x, kernel)))

    jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, kernel)
    found = [
        equation
        for equation in equations(jaxpr.jaxpr)
        if equation.primitive.name == "conv_general_dilated"
    ]
    assert len(found) == 3
    for equation in found:
        kernel_axes = equation.params["dimension_numbers"].rhs_spec[2:]
        window = [equation.invars[1].aval.shape[axis] for axis in kernel_axes]
        zeros_inserted = set(equation.params["lhs_dilation"]) != {1}
        assert window == [3, 3] or not zeros_inserted


def equations(jaxpr):
    """All equations, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda value: hasattr(getattr(value, "jaxpr", value), "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def test_large_maps_are_transposed_row_by_row(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (3, 5, 4, 2))
    monkeypatch.setattr(convolution, "_LARGE_MAP", 1)
    moved = jax.jit(convolution._channels_first_batch_last)(x)
    np.testing.assert_array_equal(moved, x.transpose(3, 1, 2, 0))


@pytest.mark.parametrize("shape", [(40, 3), (6, 5, 4, 3)])
def test_batch_norm_equals_flax_in_values_statistics_and_gradients(shape):
    x = 2 + 3 * jax.random.normal(jax.random.key(0), shape)
    own = layers.BatchNorm(use_running_average=False)
    flax = nn.BatchNorm(use_running_average=False, momentum=0.9)
    variables = flax.init(jax.random.key(1), x)
    started = own.init(jax.random.key(1), x)
    assert jax.tree.structure(started) == jax.tree.structure(variables)
    params = {
        "scale": jax.random.normal(jax.random.key(2), shape[-1:]),
        "bias": jax.random.normal(jax.random.key(3), shape[-1:]),
    }
    stats = variables["batch_stats"]
    g = jax.random.normal(jax.random.key(4), shape)
    results = []
    for layer in (own, flax):

        def run(params, x, layer=layer):
            return layer.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])

        y, vjp, changed = jax.vjp(run, params, x, has_aux=True)
        results.append((y, changed, vjp(g)))
        frozen = type(layer)(use_running_average=True)
        results[-1] += (frozen.apply({"params": params, **changed}, x),)
    jax.tree.map(close, *results)


def test_batch_norm_over_a_mapped_axis_equals_the_whole_batch():
    x = jax.random.normal(jax.random.key(0), (8, 3, 3, 4)) + jnp.arange(8.0)[:, None, None, None]
    scale, bias = jnp.array([1.0, 2, 3, 4]), jnp.arange(4.0)
    g = jax.random.normal(jax.random.key(1), x.shape)

    def run(x, scale, bias, axis_name):
        return layers.batch_norm(x, scale, bias, axis_name=axis_name)[0]

    whole, vjp = jax.vjp(lambda *a: run(*a, None), x, scale, bias)
    expected = vjp(g)

    def part(x, g):
        y, vjp = jax.vjp(lambda *a: run(*a, "parts"), x, scale, bias)
        by_x, by_scale, by_bias = vjp(g)
        return y, by_x, lax.psum(by_scale, "parts"), lax.psum(by_bias, "parts")

    y, by_x, by_scale, by_bias = jax.vmap(part, axis_name="parts")(
        x.reshape(2, 4, 3, 3, 4), g.reshape(2, 4, 3, 3, 4)
    )
    close(y.reshape(x.shape), whole)
    close(by_x.reshape(x.shape), expected[0])
    close(by_scale[0], expected[1])
    close(by_bias[1], expected[2])


@pytest.fixture
def optimised():
    """Programs compiled as users have them, not as the rest of the suite does."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


class Stage(nn.Module):
    """Convolution, batch norm, ReLU and pool, by this package's layers or by Flax's."""

    of_flax: bool

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv if self.of_flax else layers.Conv
        norm = nn.BatchNorm if self.of_flax else layers.BatchNorm
        pool = nn.max_pool if self.of_flax else layers.max_pool
        x = conv(8, (3, 3), padding="VALID", use_bias=False, name="conv")(x)
        x = nn.relu(norm(use_running_average=False, momentum=0.9, name="norm")(x))
        return pool(x, (2, 2), (2, 2))


def test_the_pools_gradient_survives_fusion(optimised):
    """Compilers may compute a pool's input twice, rounded otherwise."""
    x = jax.random.normal(jax.random.key(0), (128, 28, 28, 1))
    g = jax.random.normal(jax.random.key(2), (128, 13, 13, 8))
    variables = Stage(of_flax=True).init(jax.random.key(1), x)

    def gradients(of_flax):
        def loss(params):
            y, _ = Stage(of_flax).apply({**variables, "params": params}, x, mutable=["batch_stats"])
            return jnp.sum(y * g)

        return device.jit(jax.grad(loss))(variables["params"])

    ours, theirs = gradients(of_flax=False), gradients(of_flax=True)
    for (path, mine), other in zip(
        jax.tree.flatten_with_path(ours)[0], jax.tree.leaves(theirs), strict=True
    ):
        distance = jnp.linalg.norm(mine - other) / jnp.linalg.norm(other)
        assert distance < 1e-4, jax.tree_util.keystr(path)
