"""The deep methods as scikit-learn has clusterers: fit, predict, transform, `labels_`.

They run on the same `train.fit` as the command line: the same settings, images and seed
give the same assignments.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxclust.core.errors import InputError
from jaxclust.core.types import Compute, DataSpec, Precision, Prediction, centroids_of
from jaxclust.methods import registry
from jaxclust.runs.options import check_number, check_numbers
from jaxclust.runs.progress import Reporter
from jaxclust.training import loop
from jaxclust.training.assemble import assemble, check_n_clusters, stand_in


def picture_shape(width: int) -> tuple[int, int, int]:
    """Height, width and channels of pictures flattened to rows of `width` values.

    Square grey or square coloured pictures where the number allows, else pictures of one
    row, with a warning.
    """
    for channels in (1, 3):
        side = math.isqrt(width // channels)
        if side * side * channels == width:
            return side, side, channels
    warnings.warn(
        f"rows of {width} values are no square pictures and are taken for pictures of one row; "
        "give image_shape=(height, width, channels) or images [n, h, w, c]",
        stacklevel=4,
    )
    return 1, width, 1


class ImageClusterer(
    ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, BaseEstimator
):
    """What the estimators of this module share.

    Parameters:
        n_clusters: to look for, 2 or more.
        preset: where the settings start from: `best`, `paper` or one of the method's own.
        config: the method's settings in the preset's stead, a `Config` of its module.
        epochs: of clustering; None: the settings'.
        batch_size: None: the settings'.
        seed: all randomness.
        image_shape: (height, width, channels) of pictures that come as rows of values;
            None: square ones, see :func:`picture_shape`.
        precision: of the networks' passes, float32 or bfloat16.
        devices: local devices to share batches; None: as many as can do so evenly.
        verbose: show progress on stderr.

    Attributes:
        labels_: int32 [n], clusters of the images fitted on.
        cluster_centers_: float32 [k, d], of methods that have centroids.
        n_features_in_: values of an image, height * width * channels.
        image_shape_: (height, width, channels) of the images fitted on.
        config_: the settings used.
    """

    _method: str

    def __init__(
        self,
        n_clusters: int = 10,
        *,
        preset: str = "best",
        config: Any = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        image_shape: Sequence[int] | None = None,
        precision: Precision = "float32",
        devices: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.preset = preset
        self.config = config
        self.epochs = epochs
        self.batch_size = batch_size
        self.seed = seed
        self.image_shape = image_shape
        self.precision: Precision = precision
        self.devices = devices
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Cluster images.

        Args:
            X: uint8 or float [n, h, w, c], [n, h, w], or flattened [n, h * w * c].
            y: not used.

        Raises:
            ValueError: images or settings that cannot be used; says what to do.
            RunError: the loss was no longer finite.
        """
        del y
        images = self._images(X, reset=True)
        registered = registry.find(self._method)
        self.config_ = self._settings(registered)
        check_number("seed", self.seed)
        check_n_clusters(self.n_clusters, len(images), "n_clusters")
        method, data = assemble(
            registered,
            self.config_,
            images,
            self.n_clusters,
            precision=self.precision,
            devices=self.devices,
        )
        with Reporter(None, 1, quiet=not self.verbose) as reporter:
            hooks = loop.Hooks(on_chunk=reporter.chunk)
            state = loop.fit(method, data, seed=self.seed, hooks=hooks).state
        prediction = loop.predictor(method, data)(state)
        self._spec = DataSpec(len(images), images.shape[1:], self.n_clusters)
        self._normalisation, self._dtype = data.normalisation, images.dtype
        self._leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        self._compiled = self._program()
        self._n_features_out = prediction.features.shape[1]
        self.labels_ = prediction.assignments
        centroids = centroids_of(state)
        if centroids is not None:
            self.cluster_centers_ = np.asarray(centroids)
        return self

    def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> np.ndarray:
        """`labels_` int32 [n] of a fit to images; see :meth:`fit`."""
        return super().fit_predict(X, y, **kwargs)

    def predict(self, X: Any) -> np.ndarray:
        """Clusters int32 [n] of images shaped like those fitted on."""
        return np.asarray(self._predicted(X).assignments)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities float32 [n, k] of every cluster for images; rows sum to one."""
        return np.asarray(self._predicted(X).probabilities)

    def transform(self, X: Any) -> np.ndarray:
        """Features float32 [n, d] of images: what the method clusters."""
        return np.asarray(self._predicted(X).features)

    def _settings(self, registered: registry.Registered) -> Any:
        config = registered.config(self.preset)
        if self.config is not None:
            if type(self.config) is not type(config):
                kind = f"{type(config).__module__}.{type(config).__name__}"
                raise InputError(f"config must be a {kind}, not {self.config!r}")
            config = self.config
        given = {"epochs": self.epochs, "batch_size": self.batch_size}
        config = replace(config, **{name: v for name, v in given.items() if v is not None})
        check_numbers(config)
        return config

    def _images(self, X: Any, *, reset: bool) -> np.ndarray:
        """Images as the method wants them, uint8 or float32 [n, h, w, c]."""
        if isinstance(X, list):
            X = np.asarray(X)
        shape: tuple[int, ...] | None = None
        if getattr(X, "ndim", 0) in {3, 4}:
            X = np.asarray(X)
            shape = X.shape[1:] if X.ndim == 4 else (*X.shape[1:], 1)
            if not reset and shape != self.image_shape_:
                raise InputError(f"fitted on images of shape {self.image_shape_}, not {shape}")
            X = X.reshape(len(X), -1)
        least = 2 if reset else 1
        # uint8 stays; any other type becomes the first of these.
        kinds = [np.float32, np.uint8]
        rows: Any = validate_data(self, X, reset=reset, dtype=kinds, ensure_min_samples=least)
        if reset:
            if shape is None and self.image_shape is not None:
                shape = tuple(self.image_shape)
                if len(shape) != 3 or math.prod(shape) != rows.shape[1]:
                    raise InputError(
                        f"image_shape {shape} does not make {rows.shape[1]} values; give height, "
                        "width and channels"
                    )
            self.image_shape_ = shape or picture_shape(rows.shape[1])
        elif rows.dtype != self._dtype:
            raise InputError(
                f"fitted on {self._dtype} images, not {rows.dtype}; bring them to the same scale "
                "and type"
            )
        return rows.reshape(-1, *self.image_shape_)

    def _predicted(self, X: Any) -> Prediction:
        check_is_fitted(self)
        images = self._images(X, reset=False)
        if self._compiled is None:
            self._compiled = self._program()
        method, state, program = self._compiled
        return loop.predictor(method, loop.put(images, self._normalisation), program)(state)

    def _program(self) -> tuple[Any, Any, Any]:
        """The method, its fitted state and the compiled prediction, from arrays and settings."""
        build = registry.find(self._method).build
        method = build(self.config_, self._spec, Compute(self.precision))
        seen = stand_in(self._spec, self._dtype, self._normalisation)
        shapes = loop.template(method, seen, len(method.phases) - 1)
        state = jax.tree.unflatten(jax.tree.structure(shapes), self._leaves)
        return method, state, loop.prediction_program(method, self._normalisation)

    def __getstate__(self) -> dict[str, Any]:
        # Arrays and settings only: compiled functions are made anew when needed.
        inherited: Any = super().__getstate__()
        state = dict(inherited)
        if "_compiled" in state:
            state["_compiled"] = None
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []
        return tags


class CCNN(ImageClusterer):
    """Joint CNN and mini-batch k-means with feature-drift compensation (Hsu & Lin 2017).

    `config`: a `methods.ccnn.Config`. Otherwise as :class:`ImageClusterer`.
    """

    _method = "ccnn"


class DAC(ImageClusterer):
    """Deep adaptive clustering by pairwise classification (Chang et al. 2017).

    `config`: a `methods.dac.Config`. Otherwise as :class:`ImageClusterer`.
    """

    _method = "dac"


class ICS(ImageClusterer):
    """Inter-class separation in an autoencoder's latents (Das et al. 2019).

    `config`: a `methods.ics.Config`. Otherwise as :class:`ImageClusterer`.
    """

    _method = "ics"


class DERC(ImageClusterer):
    """Autoencoder, t-SNE and Gaussian mixture, retrained by triplets (Yan et al. 2020).

    `config`: a `methods.derc.Config`. Otherwise as :class:`ImageClusterer`.
    """

    _method = "derc"


class DEC(ImageClusterer):
    """Deep embedded clustering (Xie et al. 2016).

    `config`: a `methods.dec.Config`. Otherwise as :class:`ImageClusterer`.
    """

    _method = "dec"


class IDEC(ImageClusterer):
    """DEC that keeps reconstructing (Guo et al. 2017).

    `config`: a `methods.dec.Config`. Otherwise as :class:`ImageClusterer`.
    """

    _method = "idec"
