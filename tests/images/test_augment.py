import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxclust.images.augment import (
    Affine,
    Augmentation,
    affine_matrix,
    augment,
    random_affine,
    warp,
)


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


def test_scale_enlarges_by_a_fixed_factor():
    """Against ndimage.zoom's own sampling: twice as large about the centre."""
    twice = warp(image(9, 9, 1), affine_matrix(jax.random.key(0), Affine(scale=2.0)))[..., 0]
    expected = ndimage.affine_transform(
        np.asarray(image(9, 9, 1))[..., 0], np.diag([0.5, 0.5]), [2, 2], order=1, mode="nearest"
    )
    np.testing.assert_allclose(twice, expected, atol=1e-5)


compiled = jax.jit(augment, static_argnums=2)


def pictures(n=40):
    return jax.random.normal(jax.random.key(1), (n, 6, 8, 3))


def test_no_range_returns_the_images():
    np.testing.assert_array_equal(
        compiled(jax.random.key(0), pictures(), Augmentation()), pictures()
    )


def test_flip_mirrors_about_half_of_the_images():
    x = pictures()
    views = compiled(jax.random.key(0), x, Augmentation(flip=True))
    mirrored = [np.array_equal(view, old[:, ::-1]) for view, old in zip(views, x, strict=True)]
    kept = [np.array_equal(view, old) for view, old in zip(views, x, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 10 < sum(mirrored) < 30


def test_brightness_and_channel_shift_add_one_value_within_range():
    x = pictures()
    both = compiled(jax.random.key(0), x, Augmentation(brightness=0.5)) - x
    assert float(jnp.max(jnp.ptp(both, axis=(1, 2, 3)))) < 1e-5
    assert 0.3 < float(jnp.max(jnp.abs(both))) <= 0.5 + 1e-5
    shift = compiled(jax.random.key(0), x, Augmentation(channel_shift=0.5)) - x
    assert float(jnp.max(jnp.ptp(shift, axis=(1, 2)))) < 1e-5
    assert float(jnp.min(jnp.ptp(shift[:, 0, 0], axis=1))) > 0
    assert 0.3 < float(jnp.max(jnp.abs(shift))) <= 0.5 + 1e-5


def test_contrast_keeps_each_channels_mean_and_scales_the_rest():
    x = pictures()
    views = compiled(jax.random.key(0), x, Augmentation(contrast=0.4))
    means = x.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(views.mean(axis=(1, 2), keepdims=True), means, atol=1e-5)
    factor = (views - means).std(axis=(1, 2)) / (x - means).std(axis=(1, 2))
    assert float(jnp.max(jnp.ptp(factor, axis=1))) < 1e-4
    assert 0.6 - 1e-4 < float(factor.min()) < 0.8 < 1.2 < float(factor.max()) < 1.4 + 1e-4


def test_erasing_hides_one_rectangle():
    x = pictures(200)
    views = np.asarray(compiled(jax.random.key(0), x, Augmentation(erasing=0.5)))
    sizes = []
    for view, old in zip(views, np.asarray(x), strict=True):
        changed = (view != old).any(axis=2)
        rows, columns = changed.any(axis=1), changed.any(axis=0)
        assert changed.sum() == rows.sum() * columns.sum()
        if changed.any():
            np.testing.assert_allclose(
                view[changed], np.broadcast_to(old.mean((0, 1)), view[changed].shape), atol=1e-5
            )
        sizes.append((rows.sum(), columns.sum()))
    assert max(rows for rows, _ in sizes) == 3
    assert max(columns for _, columns in sizes) == 4


def test_views_are_keyed_by_position():
    ranges = Augmentation(Affine(15, 0.1, 0.1), True, 0.1, 0.1, 0.1, 0.3)
    x = pictures(10)
    views = compiled(jax.random.key(0), x, ranges)
    np.testing.assert_allclose(compiled(jax.random.key(0), x[:4], ranges), views[:4], atol=1e-6)
    assert not np.array_equal(compiled(jax.random.key(1), x, ranges), views)
