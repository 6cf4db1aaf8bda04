"""DEC's losses in your own training loop: JAX and optax, no Flax, no jaxclust loop.

    python examples/loss_in_your_loop.py

A small autoencoder of scikit-learn's digits, written as two lists of matrices; k-means on its
latents; then their Student-t assignments are sharpened towards the target distribution.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import optax
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from jaxclust import losses, metrics

Layers = list[jax.Array]


def layers(key: jax.Array, widths: tuple[int, ...]) -> Layers:
    """Matrices of a network without biases."""
    keys = jax.random.split(key, len(widths))
    pairs = zip(keys, widths, widths[1:], strict=False)
    return [jax.random.normal(k, (i, o)) * (2 / i) ** 0.5 for k, i, o in pairs]


def forward(matrices: Layers, x: jax.Array) -> jax.Array:
    """ReLU between the matrices."""
    for matrix in matrices[:-1]:
        x = jax.nn.relu(x @ matrix)
    return x @ matrices[-1]


def assignments(params: Any, x: jax.Array) -> jax.Array:
    """Student-t assignments [b, k]."""
    latents = forward(params["encoder"], x)
    distances = jnp.sum(jnp.square(latents[:, None] - params["centroids"][None]), axis=-1)
    return losses.student_t_assignment(distances)


def main() -> None:
    """Pre-train, cluster, sharpen; print the agreement with the labels before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="steps of each of the two stages")
    steps = parser.parse_args().steps
    digits: Any = load_digits()
    x = jnp.asarray(digits.data / 16, jnp.float32)
    optimiser = optax.adam(1e-3)
    encoder_key, decoder_key, key = jax.random.split(jax.random.key(0), 3)
    params: Any = {
        "encoder": layers(encoder_key, (64, 256, 10)),
        "decoder": layers(decoder_key, (10, 256, 64)),
    }

    def error_of(params: Any, batch: jax.Array) -> jax.Array:
        return losses.reconstruction_error(
            forward(params["decoder"], forward(params["encoder"], batch)), batch
        )

    def loss_of(params: Any, batch: jax.Array, targets: jax.Array) -> jax.Array:
        sharpening = losses.kl_divergence(targets, assignments(params, batch))
        return sharpening + 0.1 * error_of(params, batch)

    def train(loss: Any, params: Any) -> Any:
        @jax.jit
        def step(params: Any, state: Any, i: jax.Array, targets: jax.Array) -> tuple[Any, Any]:
            rows = jax.random.choice(jax.random.fold_in(key, i), x.shape[0], (256,))
            gradient = jax.grad(loss)(params, x[rows], targets[rows])
            updates, state = optimiser.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        state, targets = optimiser.init(params), jnp.zeros((x.shape[0], 1))
        for i in range(steps):
            if "centroids" in params and i % 100 == 0:
                targets = losses.target_distribution(assignments(params, x))
            params, state = step(params, state, jnp.asarray(i), targets)
        return params

    params = train(lambda params, batch, _: error_of(params, batch), params)
    found = KMeans(10, n_init=10, random_state=0).fit(forward(params["encoder"], x))
    print(f"k-means on the latents: ACC {metrics.accuracy(digits.target, found.labels_):.3f}")
    params = train(loss_of, {**params, "centroids": jnp.asarray(found.cluster_centers_)})
    clusters = jnp.argmax(assignments(params, x), axis=1)
    print(f"after sharpening: ACC {metrics.accuracy(digits.target, clusters):.3f}")


if __name__ == "__main__":
    main()
