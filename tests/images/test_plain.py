"""Methods that learn from interpolated views may see plain images through the same filter."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxclust.images.augment import plain
from jaxclust.images.normalisation import normalise
from jaxclust.methods.registry import METHODS
from jaxclust.training import placement, starting
from tests.methods import small

CHANGES = {
    "ccnn": {"batch_size": 20, "k_m": 10, "n_m": 10},
    "dac": {"draw_size": 20, "batch_size": 20},
    "dec": {"batch_size": 20},
}


def with_resampling(config, resampling):
    views = config.views
    if hasattr(views, "affine"):
        affine = dataclasses.replace(views.affine, resampling=resampling)
        return dataclasses.replace(config, views=dataclasses.replace(views, affine=affine))
    return dataclasses.replace(config, views=dataclasses.replace(views, resampling=resampling))


@pytest.mark.parametrize("name", CHANGES)
def test_predictions_are_of_filtered_images_exactly_where_asked_for(name):
    data = small.data(40)
    config = dataclasses.replace(METHODS[name].config("best"), **CHANGES[name])
    methods = {}
    for resampling in ("bilinear", "bilinear_everywhere"):
        one = with_resampling(config, resampling)
        methods[resampling] = METHODS[name].build(one, placement.spec_of(data, 3))
    state = starting.init(methods["bilinear"], data, 0)
    images = normalise(data.images[:20], data.normalisation)
    config = with_resampling(config, "bilinear_everywhere")
    filtered = plain(images, getattr(config.views, "affine", config.views))
    assert not np.allclose(filtered, images)
    expected = jax.jit(methods["bilinear"].predict)(state, filtered).features
    found = jax.jit(methods["bilinear_everywhere"].predict)(state, images).features
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
