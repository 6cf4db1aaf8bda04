from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxclust.core.types import Compute
from jaxclust.methods import ccnn
from jaxclust.models import precision
from jaxclust.models.backbones import LeNetBackbone
from jaxclust.models.feature_and_output import CCNN, Body
from jaxclust.models.heads import FlatHead
from jaxclust.training import placement
from tests.methods import small


def network_and_variables():
    network = CCNN(Body(LeNetBackbone((4, 8)), FlatHead(16)), 3, 3)
    x = jax.random.normal(jax.random.key(0), (200, 8, 8, 1))
    return network, jax.jit(partial(network.init, train=False))(jax.random.key(1), x), x


def test_convolutions_and_products_run_in_bfloat16():
    network, variables, x = network_and_variables()

    def run(variables, x):
        return precision.apply(network, variables, x, precision="bfloat16", train=False)

    jaxpr = jax.make_jaxpr(run)(variables, x)
    text = str(jaxpr)
    for operation in ("dot_general", "conv_general_dilated"):
        lines = [line for line in text.splitlines() if f"= {operation}[" in line]
        assert lines, operation
        assert all("bf16" in line.split("=")[0] for line in lines)


def test_outputs_gradients_and_statistics_come_back_in_float32():
    network, variables, x = network_and_variables()
    stats = {"batch_stats": variables["batch_stats"]}

    def loss(params, how):
        outputs, changed = precision.apply(
            network, {"params": params, **stats}, x, precision=how, train=True, mutable=list(stats)
        )
        return jnp.mean(jnp.square(outputs.logits - 1)), changed

    results = {
        how: jax.jit(partial(jax.value_and_grad(loss, has_aux=True), how=how))(variables["params"])
        for how in ("float32", "bfloat16")
    }
    for leaf in jax.tree.leaves(results):
        assert leaf.dtype == jnp.float32
    (exact, exact_stats), exact_gradients = results["float32"]
    (rough, rough_stats), rough_gradients = results["bfloat16"]
    assert rough != exact
    np.testing.assert_allclose(rough, exact, rtol=0.05)
    mean = "batch_stats", "body", "backbone", "BatchNorm_0", "mean"
    ours, theirs = exact_stats, rough_stats
    for name in mean:
        ours, theirs = ours[name], theirs[name]
    np.testing.assert_allclose(theirs, ours, atol=0.02)
    # Some gradients are zero but for rounding; the whole of them must agree.
    flat = [
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
        for tree in (exact_gradients, rough_gradients)
    ]
    cosine = jnp.vdot(*flat) / jnp.linalg.norm(flat[0]) / jnp.linalg.norm(flat[1])
    assert cosine > 0.98


def test_batch_norm_statistics_are_not_rounded_to_bfloat16():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            from jaxclust.models.layers import BatchNorm

            return BatchNorm(use_running_average=False)(x)

    # A mean that bfloat16 cannot hold, of values that it can.
    x = jnp.where(jnp.arange(1000) % 1000 == 0, 2.0, 1.0).reshape(1000, 1)
    variables = Net().init(jax.random.key(0), x)
    _, changed = precision.apply(Net(), variables, x, precision="bfloat16", mutable=["batch_stats"])
    mean = changed["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, [0.1 * 1.001], rtol=1e-6)


def test_a_step_keeps_every_state_leaf_in_float32():
    data = small.data()
    spec = placement.spec_of(data, 3)
    body = Body(LeNetBackbone((4, 8)), FlatHead(16))
    config = ccnn.Config(init="random", batch_size=20, k_m=5, n_m=10)
    states = {}
    for how in ("float32", "bfloat16"):
        method = ccnn.build(config, spec, Compute(how), body=body)
        state = small.begun(method)
        after, info = jax.jit(method.step)(state, small.batch())
        states[how] = after
        assert info.loss.dtype == jnp.float32
        same = jax.tree.map(lambda a, b: a.dtype == b.dtype and a.shape == b.shape, state, after)
        assert all(jax.tree.leaves(same))
    centroids = [states[how].cluster.kmeans.centroids for how in states]
    assert not np.array_equal(*centroids)
    np.testing.assert_allclose(*centroids, atol=0.1)
