import dataclasses

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
    plain,
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


def read_naively(image, matrix, resampling):
    """One output pixel after the other, in pixels, by the definitions alone."""
    height, width, _ = image.shape
    largest = max(height, width)
    result = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            # From the centre, in units of the longer side, through the linear map and back.
            y, x = (i - (height - 1) / 2) / largest, (j - (width - 1) / 2) / largest
            row = (matrix[0, 0] * y + matrix[0, 1] * x) * largest + matrix[0, 2] * height
            column = (matrix[1, 0] * y + matrix[1, 1] * x) * largest + matrix[1, 2] * width
            row = min(max(row + (height - 1) / 2, 0), height - 1)
            column = min(max(column + (width - 1) / 2, 0), width - 1)
            if resampling == "nearest":
                result[i, j] = image[int(np.floor(row + 0.5)), int(np.floor(column + 0.5))]
                continue
            top, left = int(row), int(column)
            for p in (0, 1):
                for q in (0, 1):
                    weight = abs(1 - p - (row - top)) * abs(1 - q - (column - left))
                    at = image[min(top + p, height - 1), min(left + q, width - 1)]
                    result[i, j] += weight * at
    return result


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
@pytest.mark.parametrize("seed", range(4))
def test_warp_against_a_naive_loop(seed, resampling):
    matrix = affine_matrix(jax.random.key(seed), Affine(25, 0.15, 0.3, 0.2, zoom_per_axis=True))
    expected = read_naively(np.asarray(image(), float), np.asarray(matrix, float), resampling)
    actual = np.asarray(warp(image(), matrix, resampling))
    # A place that rounding puts on the other side of a pixel's border is another pixel's.
    assert np.isclose(actual, expected, atol=1e-4).mean() > 0.99


@pytest.mark.parametrize("seed", range(3))
def test_nearest_against_scipy(seed):
    square = np.asarray(image(11, 11, 1))[..., 0]
    matrix = np.asarray(affine_matrix(jax.random.key(seed), Affine(30, 0.1, 0.2)), float)
    offset = 5 + 11 * matrix[:, 2] - matrix[:, :2] @ np.array([5.0, 5.0])
    expected = ndimage.affine_transform(square, matrix[:, :2], offset, order=0, mode="nearest")
    view = warp(image(11, 11, 1), jnp.asarray(matrix, jnp.float32), "nearest")[..., 0]
    assert np.isclose(view, expected, atol=1e-6).mean() > 0.98


def test_zoom_of_rows_and_columns_is_drawn_apart():
    keys = jax.random.split(jax.random.key(0), 400)

    def drawn(ranges):
        matrices = jax.vmap(lambda key: affine_matrix(key, ranges))(keys)
        return 1 / np.asarray(matrices)[:, [0, 1], [0, 1]]

    rows, columns = drawn(Affine(zoom=0.3)).T
    np.testing.assert_allclose(rows, columns, rtol=1e-5)
    rows, columns = drawn(Affine(zoom=0.3, zoom_per_axis=True)).T
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.15
    for zoom in (rows, columns):
        assert 0.7 - 1e-4 < zoom.min() < 0.72 < 1.28 < zoom.max() < 1.3 + 1e-4


def test_nearest_makes_no_new_values_and_bilinear_does():
    x = jnp.round(jax.random.uniform(jax.random.key(2), (20, 8, 8, 1)))
    ranges = Affine(15, 0.1, 0.1, resampling="nearest")
    assert set(np.unique(random_affine(jax.random.key(0), x, ranges))) == {0.0, 1.0}
    blurred = random_affine(
        jax.random.key(0), x, dataclasses.replace(ranges, resampling="bilinear")
    )
    assert len(np.unique(blurred)) > 100


def test_plain_images_are_blurred_as_interpolation_does_on_average():
    """Against shifts by every part of a pixel, averaged."""
    square = image(9, 9, 1)
    shifts = (np.arange(40) + 0.5) / 40 - 0.5
    matrices = [jnp.array([[1.0, 0, a / 9], [0, 1, b / 9]]) for a in shifts for b in shifts]
    mean = np.mean(jax.lax.map(lambda matrix: warp(square, matrix), jnp.stack(matrices)), axis=0)
    ranges = Affine(shift=0.1, resampling="bilinear_everywhere")
    np.testing.assert_allclose(plain(square[None], ranges)[0], mean, atol=2e-3)
    for kept in (Affine(shift=0.1), Affine(resampling="bilinear_everywhere")):
        np.testing.assert_array_equal(plain(square[None], kept)[0], square)


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


def test_clipped_shift_stays_within_the_views_own_extremes():
    x = pictures()
    free = compiled(jax.random.key(0), x, Augmentation(channel_shift=2.0))
    held = compiled(jax.random.key(0), x, Augmentation(channel_shift=2.0, clip_shift=True))
    lowest = np.asarray(x).min(axis=(1, 2, 3), keepdims=True)
    highest = np.asarray(x).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(held, np.clip(free, lowest, highest), atol=1e-6)
    assert not np.allclose(held, free)


def test_value_factor_multiplies_what_all_else_has_made():
    x, ranges = pictures(), Augmentation(Affine(10, 0.1), True, 0.2, True, 0.1, 0.1, 0.3)
    scaled = dataclasses.replace(ranges, value_factor=0.975)
    view, usual = (compiled(jax.random.key(4), x, one) for one in (scaled, ranges))
    np.testing.assert_allclose(view, np.asarray(usual) * 0.975, atol=1e-6)


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
    ranges = Augmentation(Affine(15, 0.1, 0.1), True, 0.1, False, 0.1, 0.1, 0.3)
    x = pictures(10)
    views = compiled(jax.random.key(0), x, ranges)
    np.testing.assert_allclose(compiled(jax.random.key(0), x[:4], ranges), views[:4], atol=1e-6)
    assert not np.array_equal(compiled(jax.random.key(1), x, ranges), views)
