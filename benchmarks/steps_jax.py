"""The train steps of train_step.py, in JAX."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxclust.clustering.triplets import choose_negatives, choose_triplets
from jaxclust.core import device, keys
from jaxclust.core.types import Batch, Compute, DataSpec, PyTree
from jaxclust.images.augment import Affine, Augmentation
from jaxclust.losses import restrain
from jaxclust.methods import ccnn, dac
from jaxclust.methods.registry import METHODS
from jaxclust.models import precision
from jaxclust.models.allconvnet import cifar_network_2, mnist_network
from jaxclust.models.autoencoder import PooledAutoencoder
from jaxclust.models.autoencoders import NETWORKS
from jaxclust.models.feature_and_output import CCNN

K = 10


class Subject(NamedTuple):
    """A step to be timed: `step` and `passes` take and return a carry."""

    carry: PyTree
    step: Callable[[PyTree], tuple[PyTree, Array]]  # carry -> (carry, loss)
    passes: Callable[[PyTree], tuple[PyTree, Array]]  # the networks' passes and the update alone
    exchange: dict[str, Array]  # what the other side starts from


def weights(params: PyTree) -> dict[str, Array]:
    """Parameters by path, 'a/b/c'."""
    return {
        "/".join(str(key.key) for key in path): leaf
        for path, leaf in jax.tree.flatten_with_path(params)[0]
    }


def _network(
    network: Any,
    optimiser: optax.GradientTransformation,
    images: Array,
    loss_of: Callable[[Any], Array],
    how: str,
) -> Subject:
    """A bare network: a training pass, its gradients, the optimiser's update."""
    variables = device.jit(partial(network.init, train=False))(jax.random.key(0), images[:2])

    def step(carry: PyTree) -> tuple[PyTree, Array]:
        params, stats, opt_state = carry

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            output, changed = precision.apply(
                network,
                {"params": params, "batch_stats": stats},
                images,
                precision=how,
                train=True,
                mutable=["batch_stats"],
            )
            return loss_of(output), changed["batch_stats"]

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimiser.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), value

    params = variables["params"]
    carry = (params, variables["batch_stats"], device.jit(optimiser.init)(params))
    return Subject(carry, step, step, {"images": images, **weights(params)})


def _dac(network: Any, options: argparse.Namespace) -> Subject:
    images = jax.random.normal(jax.random.key(0), (options.batch, *options.shape))
    targets = jax.nn.one_hot(jnp.arange(options.batch) % K, K)
    return _network(
        network,
        dac.optimiser(dac.Config()),
        images,
        lambda logits: jnp.mean(jnp.square(logits - targets)),
        options.precision,
    )


def _ics(options: argparse.Namespace) -> Subject:
    images = jax.random.normal(jax.random.key(0), (options.batch, *options.shape))
    return _network(
        PooledAutoencoder(tuple(options.shape)),
        optax.adam(1e-3),
        images,
        lambda coded: jnp.mean(jnp.square(coded.decoded - images)),
        options.precision,
    )


def _dac_step(options: argparse.Namespace) -> Subject:
    """DAC's update on MNIST's network without random views, targets already fixed."""
    b, shape = options.batch, tuple(options.shape)
    # One batch a draw: then the order in which it is taken does not matter.
    config = dac.Config(draw_size=b, batch_size=b, inner_passes=1000, views=Augmentation())
    spec = DataSpec(b, shape, K)
    method = dac.build(config, spec, Compute(options.precision))
    network = dac.published_network(config, spec)
    image_key, draw_key = jax.random.split(jax.random.key(0))
    images = jax.random.normal(image_key, (b, *shape))
    known = restrain(3 * jax.random.normal(draw_key, (b, K)))
    state = device.jit(method.init)(jax.random.key(0), images[:2])
    # A step past the one that would compute the targets.
    state = state.replace(step=state.step + 1, cluster=state.cluster._replace(draw=known))
    batch = Batch(images, jnp.arange(b))

    def step(state: Any) -> tuple[Any, Array]:
        state, info = method.step(state, batch)
        return state, info.loss

    bare = _network(network, dac.optimiser(config), images, jnp.mean, options.precision)

    def passes(state: Any) -> tuple[Any, Array]:
        """A training pass, its gradients, RMSprop."""
        carry = (state.params, state.model_state["batch_stats"], state.opt_state)
        (params, stats, opt_state), value = bare.step(carry)
        model_state = {"batch_stats": stats}
        return state.replace(params=params, model_state=model_state, opt_state=opt_state), value

    return Subject(state, step, passes, {"images": images, "known": known, **weights(state.params)})


def _ccnn(options: argparse.Namespace) -> Subject:
    """CCNN's step of preset `best` without random views."""
    b, shape = options.batch, tuple(options.shape)
    trusted = 4 * b // 5
    config = ccnn.Config(batch_size=b, k_m=trusted, n_m=trusted, init="random", views=Affine())
    spec = DataSpec(100 * b, shape, K)
    method = ccnn.build(config, spec, Compute(options.precision))
    images = jax.random.normal(jax.random.key(0), (b, *shape))
    batch = Batch(images, jnp.arange(b))
    state = device.jit(method.init)(jax.random.key(0), images)
    features = device.jit(method.predict)(state, images).features
    first = method.phases[-1].first
    assert first is not None
    state = device.jit(first.update)(state, features)
    body, _ = ccnn.network_body(config, spec)
    network = CCNN(body, K, K, config.rectify_features, config.normalise_features)
    tuner = ccnn.fine_tuning_optimiser(config, spec.n_images)
    apply = partial(precision.apply, network, precision=options.precision)

    def step(state: Any) -> tuple[Any, Array]:
        state, info = method.step(state, batch)
        return state, info.loss

    def passes(state: Any) -> tuple[Any, Array]:
        """Inference on the batch, training on the trusted share, Adam."""
        stats = state.model_state["network"]
        seen: Any = apply({"params": state.params["network"], **stats}, images, train=False)

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            outputs, changed = apply(
                {"params": params["network"], **stats},
                images[:trusted],
                train=True,
                mutable=list(stats),
            )
            return jnp.mean(jnp.square(jax.nn.softmax(outputs.logits))), changed

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = tuner.update(gradients, state.opt_state, state.params)
        state = state.replace(
            params=optax.apply_updates(state.params, updates),
            model_state={"network": stats},
            opt_state=opt_state,
        )
        # Used, so that XLA computes it.
        return state, value + jnp.sum(seen.logits)

    centres = state.cluster.kmeans
    exchange = {"images": images, "centroids": centres.centroids, "counts": centres.counts}
    return Subject(state, step, passes, exchange | weights(state.params["network"]))


def _latents(name: str, options: argparse.Namespace) -> Subject:
    """A step of DEC, IDEC, ICS or DERC without random views, from random centroids and targets."""
    b, shape = options.batch, tuple(options.shape)
    config = METHODS[name].config("best")
    if name != "derc":
        config = replace(config, views=Augmentation(), cluster_augmented=False)
    if name == "ics":
        config = replace(config, tries=1)
    if name == "derc":
        config = replace(config, reducer="pca", network="strided")
    spec = DataSpec(b, shape, K)
    method = METHODS[name].build(config, spec, Compute(options.precision))
    image_key, centroid_key, target_key = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(image_key, (b, *shape))
    batch = Batch(images, jnp.arange(b))
    state = device.jit(method.init)(jax.random.key(0), images[:2])
    first = state.params["network"]
    width = K if name == "derc" else config.latent_width
    network = NETWORKS[config.network](shape, width)
    targets = jax.nn.softmax(2 * jax.random.normal(target_key, (b, K)))
    exchange = {"images": images, "targets": targets}
    if name == "derc":
        state = state.replace(cluster=state.cluster._replace(probabilities=targets))
        key = keys.of(state, "triplets")
        triplets = choose_triplets(key, jnp.argmax(targets, axis=1), jnp.ones(b, bool))
        exchange |= dict(zip(("same", "other", "exists"), triplets, strict=True))
        exchange |= weights(first)
    else:
        centroids = jax.random.normal(centroid_key, (K, width))
        begin = method.phases[-1].first
        assert begin is not None  # DEC leaves the decoder behind there
        state = device.jit(begin.update)(state, jax.random.normal(centroid_key, (b, width)))
        state = state.replace(
            params={**state.params, "centroids": centroids},
            cluster=state.cluster._replace(targets=targets),
        )
        negative_key = keys.of(state, "negatives")
        exchange["negatives"] = choose_negatives(
            negative_key, jnp.zeros((b, 1)), jnp.zeros((b, 1)), jnp.zeros(b), jnp.arange(b), 1
        )
        exchange |= {"centroids": centroids, **weights(first)}

    def step(state: Any) -> tuple[Any, Array]:
        state, info = method.step(state, batch)
        return state, info.loss

    adam = optax.adam(config.learning_rate)
    apply = partial(precision.apply, network, precision=options.precision)

    def passes(state: Any) -> tuple[Any, Array]:
        """The network's passes with gradients, ICS's without, Adam."""

        def loss(params: PyTree) -> tuple[Array, PyTree]:
            stats = state.model_state
            variables = {"params": params["network"], **stats}
            if name == "dec":
                latent: Any = apply(variables, images, train=True, method="encode")
                return jnp.mean(jnp.square(latent)), stats
            coded, stats = apply(variables, images, train=True, mutable=list(stats))
            total = jnp.mean(jnp.square(coded.latent))
            total += jnp.mean(jnp.square(coded.decoded - images))
            if name == "ics":
                encode = partial(apply, variables, method="encode")
                positive, stats = encode(images, train=True, mutable=list(stats))
                seen: Any = encode(jnp.repeat(images, config.augments + 1, axis=0), train=False)
                total += jnp.mean(jnp.square(positive)) + jnp.mean(jax.lax.stop_gradient(seen))
            return total, stats

        (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = adam.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state.replace(params=params, model_state=stats, opt_state=opt_state), value

    return Subject(state, step, passes, exchange)


SUBJECTS: dict[str, Callable[[argparse.Namespace], Subject]] = {
    "ccnn": _ccnn,
    "dac": _dac_step,
    "dac_mnist": lambda options: _dac(mnist_network(K), options),
    "dac_cifar2": lambda options: _dac(cifar_network_2(K), options),
    "ics_shallow": _ics,
    **{name: partial(_latents, name) for name in ("dec", "idec", "ics", "derc")},
}
