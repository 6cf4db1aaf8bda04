"""Every loss under 64-bit defaults and strict promotion, and what it refuses."""

import chex
import jax
import jax.numpy as jnp
import pytest

from jaxclust import losses
from tests.strict import assert_strong, strict_x64

N, K = 6, 4


def arguments(dtype):
    """Of every loss; the first is what it is differentiated by."""
    z, same, other = jax.random.normal(jax.random.key(0), (3, N, K), dtype)
    q, p = jax.nn.softmax(z), jax.nn.softmax(same)
    labels = jnp.arange(N, dtype=jnp.int32) % K
    targets = jnp.eye(N, dtype=dtype)
    mask = jnp.ones((N, N), dtype)
    difference, there = jnp.linspace(0, 1, N, dtype=dtype), jnp.arange(N) > 1
    turn = jnp.linspace(-1, 1, K * K, dtype=dtype).reshape(K, K)
    return {
        "assignment_entropy": (q,),
        "batch_triplet": (z, labels),
        "bernoulli_error": (z, p),
        "cosine_similarities": (z,),
        "discriminator_bce": (z[:, 0], same[:, 0]),
        "generator_bce": (z[:, 0],),
        "kl_divergence": (q, p),
        "mixture_divergence": (z, same, other, q[0], z[:K], same[:K]),
        "mixture_log_density": (z, q[0], other[:K], same[:K]),
        "neighbour_information": (q, p, p.mean(axis=0), q[:, 0]),
        "pairwise_bce": (q, targets, mask),
        "pairwise_squared_error": (q, targets, mask),
        "pairwise_absolute_error": (q, targets, mask),
        "reconstruction_error": (z, same),
        "restrain": (z,),
        "select_pairs": (z, 0.5, 0.1),
        "self_label_bce": (q, p),
        "student_t_assignment": (jnp.square(z),),
        "sum_of_squared_errors": (z, labels, there),
        "target_distribution": (q,),
        "triplet_separation": (z, same, other, 0.3),
        "virtual_adversarial": (z, z @ turn, same, there.astype(dtype), lambda x: x @ turn),
        "weighted_triplet": (z, same, other, difference, there, 1.0),
    }


def test_every_public_loss_is_here():
    assert set(arguments(jnp.float32)) == set(losses.__all__)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", losses.__all__)
def test_the_dtype_is_kept_under_strict_promotion(name, dtype):
    function = getattr(losses, name)
    with strict_x64():
        first, *others = arguments(dtype)[name]

        def total(first):
            found = function(first, *others)
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(found)), found

        (_, found), gradient = jax.eval_shape(jax.value_and_grad(total, has_aux=True), first)
        assert_strong((found, gradient), jnp.dtype(dtype))


@pytest.mark.parametrize("name", losses.__all__)
def test_numbers_are_those_of_jaxs_usual_defaults(name):
    function = getattr(losses, name)
    usual = function(*arguments(jnp.float32)[name])
    with strict_x64():
        strict = function(*arguments(jnp.float32)[name])
    chex.assert_trees_all_close(strict, usual, rtol=1e-6)


@pytest.mark.parametrize("name", losses.__all__)
def test_another_rank_or_dtype_is_refused(name):
    function = getattr(losses, name)
    first, *others = arguments(jnp.float32)[name]
    with pytest.raises(AssertionError, match=r"rank|shape"):
        function(first[0], *others)
    with pytest.raises(AssertionError, match="type"):
        function(first.astype(jnp.int32), *others)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (name, place)
        for name, given in arguments(jnp.float32).items()
        for place, argument in enumerate(given)
        if place and getattr(argument, "ndim", 0)
    ],
)
def test_other_arguments_of_another_shape_are_refused(name, place):
    """A [b, k] beside a [b, 1] would broadcast in silence."""
    given = list(arguments(jnp.float32)[name])
    given[place] = given[place][..., :1]
    with pytest.raises(AssertionError, match=r"shape|rank"):
        getattr(losses, name)(*given)


@pytest.mark.parametrize("name", losses.__all__)
def test_checks_hold_under_jit_and_vmap(name):
    function = getattr(losses, name)
    first, *others = arguments(jnp.float32)[name]
    mapped = jax.jit(jax.vmap(lambda first: function(first, *others)))(jnp.stack([first] * 2))
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[1], mapped), function(first, *others), rtol=1e-5, atol=1e-6
    )
