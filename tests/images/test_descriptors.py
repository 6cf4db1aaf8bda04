import jax.numpy as jnp
import numpy as np
import pytest
from skimage.feature import hog as reference_hog

from jaxclust.core.errors import InputError
from jaxclust.images.descriptors import check_descriptor, colour_grid, describe, hog


def pictures(height, width, channels, n=3, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(size=(n, height, width, channels)), axis=1)
    return smooth.astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64, 1), (64, 64, 3), (80, 72, 3), (16, 8, 1)])
def test_hog_is_scikit_images(shape):
    images = pictures(*shape)
    height, width, channels = shape
    expected = [
        reference_hog(
            image if channels > 1 else image[..., 0],
            orientations=9,
            pixels_per_cell=(height // 8, width // 8),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
            channel_axis=-1 if channels > 1 else None,
        )
        for image in images
    ]
    found = hog(jnp.asarray(images))
    assert found.shape == (3, 1764)
    # A gradient on the edge of two orientations may fall into either.
    differing = np.abs(np.asarray(found) - np.stack(expected)) > 1e-4
    assert differing.mean() < 0.002


def test_hog_of_a_flat_image_is_zero_and_of_the_size_of_contrast_free():
    flat = np.full((1, 64, 64, 3), 7.0, np.float32)
    np.testing.assert_array_equal(hog(jnp.asarray(flat)), 0)
    images = pictures(64, 64, 1)
    np.testing.assert_allclose(hog(jnp.asarray(images)), hog(jnp.asarray(5 * images)), atol=1e-4)


def test_colour_grid_is_the_mean_of_each_cell():
    images = pictures(64, 48, 3)
    means = colour_grid(jnp.asarray(images)).reshape(3, 8, 8, 3)
    np.testing.assert_allclose(means[1, 2, 5], images[1, 16:24, 30:36].mean(axis=(0, 1)), rtol=1e-4)


def test_what_is_described_depends_on_the_size():
    assert describe(jnp.zeros((2, 63, 80, 3))).shape == (2, 63 * 80 * 3)
    assert describe(jnp.zeros((2, 64, 80, 3))).shape == (2, 1764 + 192)
    assert describe(jnp.zeros((2, 64, 80, 3)), "pixels").shape == (2, 64 * 80 * 3)
    assert describe(jnp.zeros((2, 28, 28, 1)), "hog").shape == (2, 1764 + 64)


def test_images_too_small_for_hog_are_refused():
    check_descriptor("pixels", (7, 9, 1))
    with pytest.raises(InputError, match="at least 8x8"):
        check_descriptor("hog", (7, 9, 1))
