"""CNN-CM: k-means on a network whose filters are centroids of windows (Dundar et al. 2016).

Dundar, Jin & Culurciello 2016, "Convolutional Clustering for Unsupervised Learning"; CNN-CM of
Hsu & Lin 2017. Two layers are learned one after the other by convolutional k-means; nothing is
trained by gradients.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxclust.clustering import convolutional
from jaxclust.core import keys, settings
from jaxclust.core.errors import InputError
from jaxclust.core.settings import setting
from jaxclust.core.types import (
    Batches,
    Compute,
    DataSpec,
    Method,
    Phase,
    Prediction,
    PyTree,
    Refit,
    TrainState,
    first_state,
)
from jaxclust.methods.parts import centroids
from jaxclust.methods.parts.recipe import recorded
from jaxclust.models.layers import conv2d, grid_max, max_pool


@dataclass(frozen=True)
class Config:
    """CNN-CM's settings."""

    batch_size: int = setting(256, least=1)
    """Images per pass of the network."""
    side: int = setting(5, least=2)
    """Side of a filter; at most 3 for images under 16 pixels."""
    window: int = setting(10, least=2)
    """Side of the windows that filters are learned from, twice the filters' side; a smaller map is
    used whole."""
    windows: int = setting(20_000, least=100)
    """Windows each layer is learned from, drawn from at most 10,000 images."""
    rounds: int = setting(10, least=1)
    """Rounds of convolutional k-means, each over all windows."""
    filters: int = setting(32, least=1)
    """Filters of the first layer."""
    groups: int = setting(8, least=1)
    """Groups of the second layer's filters; each sees `connected` of the first layer's maps."""
    group_filters: int = setting(16, least=1)
    """Filters of each group."""
    connected: int = setting(8, least=1)
    """Maps each group sees, chosen because they respond together."""
    grid: int = setting(4, least=1)
    """The features are the last maps' maxima over a grid of this many parts each way."""


# Images that windows are drawn from, while they take less than a gigabyte.
_IMAGES, _BYTES = 10_000, 2**30
PRESETS = {"best": Config(), "paper": Config(filters=96, groups=32, group_filters=32)}


@dataclass(frozen=True, eq=False)
class _CNNCM:
    config: Config
    spec: DataSpec

    @property
    def side(self) -> int:
        """Side of a filter."""
        height, width, _ = self.spec.image_shape
        return self.config.side if min(height, width) >= 16 else min(self.config.side, 3)

    def blank(self) -> PyTree:
        """A network of zeros."""
        maps, config = self.spec.image_shape[2], self.config
        layers = {}
        for name, count in (
            ("first", config.filters),
            ("second", config.groups * config.group_filters),
        ):
            shape = (self.side, self.side, maps, count)
            layers[name] = {"kernel": jnp.zeros(shape), "bias": jnp.zeros(count)}
            maps = count
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), layers)

    def init(self, key: Array, images: Array) -> TrainState:
        params, k = self.blank(), self.spec.n_clusters
        width = jax.eval_shape(self.features, params, images).shape[1]
        return first_state(key, centroids.none_yet(k, width), k, params)

    def layer(self, weights: PyTree, x: Array) -> Array:
        """Maps [b, h, w, c] -> [b, h / 2, w / 2, filters]."""
        answers = conv2d(x, weights["kernel"], (1, 1), "SAME")
        answers += weights["bias"][None, None, None]
        return max_pool(jax.nn.relu(answers), padding="SAME")

    def features(self, params: PyTree, images: Array) -> Array:
        """Images [b, h, w, c] -> float [b, d]."""
        maps = self.layer(params["second"], self.layer(params["first"], images))
        return grid_max(maps, self.config.grid).reshape(len(images), -1)

    def windows(self, key: Array, images: Array, below: Any) -> Array:
        """Windows of a layer's input, drawn uniformly over images and places -> [m, h, w, c].

        Args:
            key: random key.
            images: [n, h, w, c].
            below: images -> maps.
        """
        maps = jax.eval_shape(below, images[:1])
        size = [max(self.side, min(self.config.window, side)) for side in maps.shape[1:3]]
        ends = [side - part + 1 for side, part in zip(maps.shape[1:3], size, strict=True)]
        draws = [jax.random.fold_in(key, i) for i in range(3)]
        count = self.config.windows
        which = [
            jax.random.randint(draw, (count,), 0, end)
            for draw, end in zip(draws, (len(images), *ends), strict=True)
        ]

        def one(row: Array, top: Array, left: Array) -> Array:
            seen = below(images[row][None])[0]
            return lax.dynamic_slice(seen, (top, left, 0), (*size, maps.shape[3]))

        # The maps of so many images are in memory at once.
        at_once = max(1, min(250, _BYTES // 4 // (4 * math.prod(maps.shape))))
        return lax.map(lambda at: one(*at), tuple(which), batch_size=at_once)

    def bank(self, key: Array, windows: Array, count: int) -> PyTree:
        """Filters learned from windows."""
        white = convolutional.whitening(windows, self.side)
        filters = convolutional.learned(key, windows, self.side, count, white, self.config.rounds)
        kernel, bias = convolutional.kernel(filters, white, self.side)
        return {"kernel": kernel, "bias": bias}

    def learn(self, state: TrainState, flat: Array) -> TrainState:
        """Learn both layers from images [n, values]."""
        images = flat.reshape(-1, *self.spec.shape)
        windows = self.windows(keys.of(state, "first windows"), images, lambda x: x)
        first = self.bank(keys.of(state, "first filters"), windows, self.config.filters)
        below = self.windows(
            keys.of(state, "second windows"), images, lambda x: self.layer(first, x)
        )
        second = self.second(state, below)
        return state.replace(params={"first": first, "second": second})

    def second(self, state: TrainState, windows: Array) -> PyTree:
        """The groups of filters, one after another, each learned on its connected maps."""
        config, maps = self.config, windows.shape[3]
        size = min(config.connected, maps)
        middle = windows[:, windows.shape[1] // 2, windows.shape[2] // 2]
        key = keys.of(state, "connections")
        seen = convolutional.connections(key, middle, config.groups, size)
        draws = jax.random.split(keys.of(state, "second filters"), config.groups)

        def group(drawn: tuple[Array, Array]) -> tuple[Array, Array]:
            draw, own = drawn
            bank = self.bank(draw, windows[..., own], config.group_filters)
            spread = jnp.zeros((self.side, self.side, maps, config.group_filters), jnp.float32)
            return spread.at[:, :, own].set(bank["kernel"]), bank["bias"]

        kernels, biases = lax.map(group, (draws, seen))
        joined = jnp.moveaxis(kernels, 0, 3).reshape(self.side, self.side, maps, -1)
        return {"kernel": joined, "bias": biases.reshape(-1)}

    def predict(self, state: TrainState, images: Array) -> Prediction:
        return centroids.judged(self.features(state.params, images), state.cluster.centroids)


@recorded("cnn_cm")
def build(config: Config, spec: DataSpec, compute: Compute = Compute()) -> Method:  # noqa: B008
    """CNN-CM on images.

    Filters and features are float32 whatever `compute` says.

    Args:
        config: settings; see :data:`PRESETS`.
        spec: size and shape of the data, number of clusters.
        compute: precision of networks' passes, and the devices' axis; neither matters here.

    Raises:
        InputError: invalid settings, images too small for two layers, or features in place of
            images.
    """
    del compute
    settings.check(config)
    method, smaller = _CNNCM(config, spec), -(-min(spec.image_shape[:2]) // 2)
    if method.side > smaller:
        raise InputError(
            f"filters of side {method.side} do not fit the second layer's maps of side {smaller}; "
            f"give a ‹side› of at most {smaller}, or larger images"
        )
    rows = max(1, min(_IMAGES, _BYTES // (4 * math.prod(spec.shape))))
    learning = Refit(method.learn, rows=rows, sees="images")
    batches = Batches(config.batch_size)
    return Method(
        method.init,
        method.predict,
        (
            Phase("filters", None, 0, batches, learning, scored="never"),
            centroids.clustering_phase(config.batch_size),
        ),
        lambda state: {"centroids": state.cluster.centroids},
    )
