import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax.test_util import check_grads

from jaxclust.losses import pairwise

PAIR_LOSSES = [
    pairwise.pairwise_bce,
    pairwise.pairwise_squared_error,
    pairwise.pairwise_absolute_error,
]


def label_features(b=6, k=4, seed=0):
    return pairwise.restrain(jax.random.normal(jax.random.key(seed), (b, k)))


def test_restraint_layer_against_the_formula():
    z = np.random.default_rng(0).normal(size=(5, 3))
    for row, actual in zip(z, pairwise.restrain(jnp.asarray(z, jnp.float32)), strict=True):
        powers = np.exp(row - row.max())
        np.testing.assert_allclose(actual, powers / np.linalg.norm(powers), rtol=1e-5)


def test_pair_selection_against_a_triple_loop():
    features = np.asarray(label_features(9))
    upper, lower = 0.9, 0.6
    targets, mask = pairwise.select_pairs(
        pairwise.cosine_similarities(jnp.asarray(features)), upper, lower
    )
    seen = set()
    for i in range(9):
        for j in range(9):
            similarity = 0.0
            for h in range(4):
                similarity += float(features[i, h]) * float(features[j, h])
            if similarity >= upper:
                expected = (1, 1)
            elif similarity < lower:
                expected = (0, 1)
            else:
                expected = (0, 0)
            seen.add(expected)
            assert (targets[i, j], mask[i, j]) == expected
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["pairwise_bce", "pairwise_squared_error"])
def test_losses_against_loops(name):
    features = label_features()
    rng = np.random.default_rng(1)
    targets, mask = rng.integers(0, 2, (2, 6, 6)).astype("f")
    np.fill_diagonal(targets, 1)  # an image is like itself
    total, count = 0.0, 0
    for i in range(6):
        for j in range(6):
            if mask[i, j]:
                g = float(np.dot(np.float64(features[i]), np.float64(features[j])))
                g = min(max(g, pairwise.CLIP), 1 - pairwise.CLIP)
                r = targets[i, j]
                bce = -r * np.log(g) - (1 - r) * np.log(1 - g)
                total += bce if name == "pairwise_bce" else (r - g) ** 2
                count += 1
    actual = getattr(pairwise, name)(features, jnp.asarray(targets), jnp.asarray(mask))
    np.testing.assert_allclose(actual, total / count, rtol=2e-4)


def test_the_absolute_error_is_the_published_codes_for_cifar_10():
    """There cross-entropy takes the targets for probabilities, clipped, and similarities for
    targets; it is summed over the pairs, divided by their number, and averaged over the rows."""
    features = label_features()
    rng = np.random.default_rng(2)
    targets, mask = rng.integers(0, 2, (2, 6, 6)).astype(np.float64)
    rows = np.asarray(features, np.float64)
    similarities, clipped = rows @ rows.T, np.clip(targets, 1e-7, 1 - 1e-7)
    crossed = -similarities * np.log(clipped) - (1 - similarities) * np.log(1 - clipped)
    theirs = ((mask * crossed).sum(axis=1) / mask.sum()).mean()
    ours = pairwise.pairwise_absolute_error(
        features, jnp.asarray(targets, jnp.float32), jnp.asarray(mask, jnp.float32)
    )
    np.testing.assert_allclose(float(ours) * -np.log(1e-7) / 6, theirs, rtol=1e-4)


def test_bce_equals_optax_away_from_the_clip():
    features = label_features()
    similarities = pairwise.cosine_similarities(features)
    targets = jnp.asarray(np.random.default_rng(1).integers(0, 2, (6, 6)), jnp.float32)
    off_diagonal = 1 - jnp.eye(6)
    logits = jnp.log(similarities) - jnp.log1p(-jnp.clip(similarities, 0, 1 - 1e-6))
    expected = optax.sigmoid_binary_cross_entropy(logits, targets)
    expected = jnp.sum(expected * off_diagonal) / 30
    np.testing.assert_allclose(
        pairwise.pairwise_bce(features, targets, off_diagonal), expected, rtol=1e-5
    )


def test_the_optimum_of_theorem_1_costs_the_clip_alone():
    labels = jnp.array([0, 1, 2, 0, 1, 2, 2])
    one_hot = jax.nn.one_hot(labels, 3)
    targets = (labels[:, None] == labels[None]).astype(jnp.float32)
    ones = jnp.ones((7, 7))
    bound = -np.log1p(-pairwise.CLIP) * 1.3  # float32 rounds 1 - CLIP
    assert 0 < float(pairwise.pairwise_bce(one_hot, targets, ones)) <= bound
    # Any label moved to another cluster costs far more.
    wrong = jax.nn.one_hot(labels.at[0].set(1), 3)
    assert float(pairwise.pairwise_bce(wrong, targets, ones)) > 1


@pytest.mark.parametrize("loss", PAIR_LOSSES)
def test_order_of_batch_and_clusters_changes_nothing(loss):
    features = label_features()
    targets, mask = pairwise.select_pairs(pairwise.cosine_similarities(features), 0.9, 0.7)
    expected = loss(features, targets, mask)
    rows, columns = np.array([3, 1, 5, 0, 2, 4]), np.array([2, 0, 3, 1])
    shuffled = loss(features[rows][:, columns], targets[rows][:, rows], mask[rows][:, rows])
    np.testing.assert_allclose(shuffled, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", PAIR_LOSSES)
def test_gradients(loss):
    z = jax.random.normal(jax.random.key(0), (5, 3))
    targets, mask = pairwise.select_pairs(
        pairwise.cosine_similarities(pairwise.restrain(z)), 0.9, 0.7
    )
    off = mask * (1 - jnp.eye(5))  # on the diagonal the clip has no gradient
    check_grads(lambda z: loss(pairwise.restrain(z), targets, off), (z,), 1, modes=["rev"])
    check_grads(
        lambda z: pairwise.self_label_bce(jax.nn.softmax(z), jnp.full((5, 3), 0.3)),
        (z,),
        1,
        modes=["rev"],
    )


def test_no_selected_pair_gives_zero_and_a_finite_gradient():
    z = jnp.zeros((3, 2))
    value, gradient = jax.value_and_grad(
        lambda z: pairwise.pairwise_bce(pairwise.restrain(z), jnp.zeros((3, 3)), jnp.zeros((3, 3)))
    )(z)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((3, 2)))


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (4, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_finite_for_finite_input(z):
    def run(z):
        features = pairwise.restrain(z)
        targets, mask = pairwise.select_pairs(pairwise.cosine_similarities(features), 0.9, 0.5)
        auxiliary = pairwise.self_label_bce(features, features)
        return (
            pairwise.pairwise_bce(features, targets, mask)
            + pairwise.pairwise_squared_error(features, targets, mask)
            + pairwise.pairwise_absolute_error(features, targets, mask)
            + auxiliary
        )

    value, gradient = jax.value_and_grad(run)(jnp.asarray(z))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
