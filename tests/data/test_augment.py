import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxclust.data.augment import Affine, affine_matrix, random_affine, warp


def image(height=9, width=12, channels=2):
    return jax.random.normal(jax.random.key(0), (height, width, channels))


def test_identity_returns_the_image():
    np.testing.assert_allclose(warp(image(), jnp.eye(2, 3)), image(), atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_warp_against_scipy(seed):
    """The same sampling by ndimage.affine_transform, in pixels instead of sides."""
    size = np.array([9, 12])
    matrix = np.asarray(affine_matrix(jax.random.key(seed), Affine(40, 0.2, 0.3, 0.3)), float)
    unit = size / size.max()
    # Pixels to common units, the linear map, and back.
    linear = np.diag(size / unit) @ matrix[:, :2] @ np.diag(unit / size)
    centre = (size - 1) / 2
    offset = centre + size * matrix[:, 2] - linear @ centre
    for channel in range(2):
        expected = ndimage.affine_transform(
            np.asarray(image())[..., channel], linear, offset, order=1, mode="nearest"
        )
        actual = warp(image(), jnp.asarray(matrix, jnp.float32))[..., channel]
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_quarter_turn_and_shift_move_pixels_exactly():
    square = image(6, 6, 1)
    turn = jnp.array([[0.0, -1, 0], [1, 0, 0]])
    np.testing.assert_allclose(warp(square, turn), np.rot90(square, -1), atol=1e-5)
    down = jnp.array([[1.0, 0, 1 / 6], [0, 1, 0]])
    np.testing.assert_allclose(warp(square, down)[:5], square[1:], atol=1e-5)


def test_draws_stay_in_range_and_fill_it():
    ranges = Affine(rotation=20, shift=0.1)
    keys = jax.random.split(jax.random.key(0), 500)
    matrices = np.asarray(jax.vmap(lambda key: affine_matrix(key, ranges))(keys))
    angles = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert np.abs(angles).max() <= 20.001
    assert angles.min() < -19
    assert angles.max() > 19
    assert np.abs(matrices[:, :, 2]).max() <= 0.1001
    np.testing.assert_allclose(np.linalg.det(matrices[:, :, :2]), 1, rtol=1e-4)


def test_views_depend_on_position_and_key_alone():
    images = jnp.stack([image(8, 8, 1)] * 4)
    key = jax.random.key(3)
    views = random_affine(key, images, Affine(30))
    assert not np.allclose(views[0], views[1])
    np.testing.assert_array_equal(views, random_affine(key, images, Affine(30)))
    # A longer batch does not change the first images' views.
    longer = random_affine(key, jnp.concatenate([images, images]), Affine(30))
    np.testing.assert_allclose(longer[:4], views, atol=1e-6)
    np.testing.assert_array_equal(random_affine(key, images, Affine()), images)
