import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from jaxclust.clustering.host import mixture
from jaxclust.core.errors import RunError
from tests.clustering.host.test_clusterers import few


def samples():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0, 0], [3, 0, 1], [0, 4, -1]])
    return np.concatenate([rng.normal(c, 1, (60, 3)) for c in centres]).astype(np.float32)


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_responsibilities_are_scikit_learns(covariance):
    x = samples()
    fitted = mixture.fit(x, 3, seed=4, covariance=covariance, restarts=2)
    reference = GaussianMixture(
        3, covariance_type=covariance, n_init=2, random_state=4, reg_covar=1e-6
    ).fit(x.astype(np.float64))
    found = jax.jit(mixture.responsibilities)(jnp.asarray(x), fitted)
    np.testing.assert_allclose(found, reference.predict_proba(x), atol=1e-4)


@pytest.fixture(scope="module")
def fitted():
    return mixture.fit(samples(), 3, seed=0)


def test_a_mixture_keeps_the_shapes_it_is_blank_with(fitted):
    blank = mixture.blank(3, 3)
    for leaf, empty in zip(fitted, blank, strict=True):
        assert (leaf.shape, leaf.dtype) == (empty.shape, empty.dtype)
    np.testing.assert_allclose(mixture.responsibilities(jnp.ones((2, 3)), blank), 1 / 3)


def test_far_samples_have_finite_responsibilities(fitted):
    found = mixture.responsibilities(jnp.full((1, 3), 1e6), fitted)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)


# Warnings are errors here: none of scikit-learn's may reach a user.
@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_copies_and_as_many_components_as_samples(covariance):
    for n in (2, 5):
        for x in few(n).values():
            found = mixture.fit(x, n, seed=0, covariance=covariance, restarts=2)
            assert all(np.isfinite(leaf).all() for leaf in found)


def test_what_no_mixture_fits_is_refused_in_words(monkeypatch):
    x = samples()
    x[7, 0] = np.nan
    with pytest.raises(RunError, match="1 of 180 images hold values that are not finite"):
        mixture.fit(x, 3, seed=0)

    def fail(self, x):
        raise ValueError("Fitting the mixture model failed because some components have ill-")

    monkeypatch.setattr(GaussianMixture, "fit", fail)
    with pytest.raises(RunError, match=r"without extent .* diag or spherical in place of full"):
        mixture.fit(samples(), 3, seed=0)
