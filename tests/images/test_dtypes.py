"""Views, descriptors and normalisation under 64-bit defaults and strict promotion."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxclust.images.augment import Affine, Augmentation, affine_matrix, augment, warp
from jaxclust.images.descriptors import describe
from jaxclust.images.normalisation import measure, normalise
from tests.strict import assert_strong, strict_x64

ALL = Augmentation(
    Affine(15, 0.1, 0.1, 0.1, zoom_per_axis=True), True, 0.1, True, 0.1, 0.1, 0.3, 0.9
)
VIEWS = {
    "affine": Augmentation(ALL.affine),
    **{
        name: Augmentation(**{name: getattr(ALL, name)})
        for name in ("flip", "channel_shift", "brightness", "contrast", "erasing", "value_factor")
    },
    "all": ALL,
}


def images(dtype=jnp.float32, shape=(3, 8, 11, 3)):
    return jax.random.normal(jax.random.key(0), shape, dtype)


@pytest.mark.parametrize("prng", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", VIEWS)
def test_views_keep_the_images_dtype(name, dtype, prng):
    with strict_x64(prng):
        x = images(dtype)
        view = jax.eval_shape(lambda x: augment(jax.random.key(1), x, VIEWS[name]), x)
        assert_strong(view, jnp.dtype(dtype))
        assert view.shape == x.shape


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_those_of_jaxs_usual_defaults(name):
    usual = augment(jax.random.key(1), images(), VIEWS[name])
    with strict_x64():
        strict = augment(jax.random.key(1), images(), VIEWS[name])
    np.testing.assert_allclose(strict, usual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prng", ["threefry2x32", "rbg"])
def test_views_of_other_keys_differ(prng):
    with strict_x64(prng):
        views = [augment(jax.random.key(seed), images(), ALL) for seed in (1, 2)]
    assert not np.allclose(*views)


def products(jaxpr):
    """Every matrix product of a program, inner ones included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, "jaxpr")):
            if hasattr(value, "jaxpr"):
                yield from products(value.jaxpr)


def test_coordinates_are_multiplied_at_full_precision():
    """Else accelerators round them to TF32 or bfloat16."""
    key = jax.random.key(0)
    found = [
        *products(jax.make_jaxpr(lambda x: augment(key, x, ALL))(images()).jaxpr),
        *products(jax.make_jaxpr(lambda key: affine_matrix(key, ALL.affine))(key).jaxpr),
        *products(jax.make_jaxpr(lambda x: warp(x, jnp.eye(2, 3)))(images()[0]).jaxpr),
    ]
    assert len(found) == 4
    for equation in found:
        precision = equation.params["precision"]
        assert set(np.ravel(precision)) == {jax.lax.Precision.HIGHEST}


@pytest.mark.parametrize("kind", ["pixels", "hog"])
def test_descriptors_keep_the_images_dtype(kind):
    for dtype in (jnp.float32, jnp.float64):
        with strict_x64():
            assert_strong(
                jax.eval_shape(lambda x: describe(x, kind), images(dtype, (2, 16, 16, 3))), dtype
            )


def test_normalised_images_are_float32():
    stored = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    usual = normalise(jnp.asarray(stored), measure(stored))
    with strict_x64():
        strict = normalise(jnp.asarray(stored), measure(stored))
    assert_strong((usual, strict))
    chex.assert_trees_all_equal(strict, usual)
