"""The deep methods as scikit-learn clusterers: fit, predict, transform, `labels_`.

They run on the same `training.fit` as the command line: the same settings, images and seed
give the same assignments. There is a class for every method of the registry that names one.
"""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxclust.core import settings
from jaxclust.core.errors import InputError
from jaxclust.core.keys import host_arrays
from jaxclust.core.types import Compute, DataSpec, Precision, Prediction
from jaxclust.images.shapes import image_shape
from jaxclust.methods import registry
from jaxclust.runs.progress import Reporter
from jaxclust.training.assemble import assemble, check_n_clusters
from jaxclust.training.fitted import Fitted, predict
from jaxclust.training.hooks import Calls
from jaxclust.training.placement import check_layout
from jaxclust.training.saving import state_of
from jaxclust.training.starts import fit

_KINDS: dict[str, Any] = {"preset": str, "devices": int | None}


class ImageClusterer(
    ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin, BaseEstimator
):
    """What the estimators of this module share.

    Parameters:
        n_clusters: to look for, 2 or more.
        preset: the starting settings: `best`, `paper` or one of the method's own.
        config: the method's settings instead of a preset, a `Config` of its module.
        epochs: of clustering; None: as in the settings.
        starts: starts to choose the best of, without labels; None: as in the settings.
        batch_size: None: as in the settings.
        random_state: seed of all randomness: an integer makes the fit repeatable; None draws one.
        image_shape: (height, width, channels) of images given as rows of values; None: square ones,
            see :func:`image_shape`.
        features: whether `X` [n, d] holds an encoder's features, not images; None: where the method
            takes nothing else.
        precision: of the networks' passes, float32 or bfloat16.
        devices: local devices to share batches; None: as many as can share them evenly.
        verbose: show progress on stderr.

    Attributes:
        labels_: int32 [n], clusters of the images it was fitted on.
        cluster_centers_: float32 [k, d], for methods that have centroids.
        n_features_in_: values per image, height * width * channels; or per row of features.
        image_shape_: (height, width, channels) of the images it was fitted on; of features (d,).
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
        starts: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        image_shape: Sequence[int] | None = None,
        features: bool | None = None,
        precision: Precision = "float32",
        devices: int | None = 1,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.preset = preset
        self.config = config
        self.epochs = epochs
        self.batch_size = batch_size
        self.starts = starts
        self.random_state = random_state
        self.image_shape = image_shape
        self.features = features
        self.precision: Precision = precision
        self.devices = devices
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Cluster images or features.

        Args:
            X: images, uint8 or float [n, h, w, c], [n, h, w], or flattened [n, h * w * c]; or
                features, numbers [n, d] (see `features`).
            y: not used.

        Raises:
            ValueError: images or settings that cannot be used; says what to do.
            RunError: the loss was no longer finite.
        """
        del y
        images = self._images(X, reset=True)
        registered = registry.find(self._method)
        self.config_ = self._settings(registered)
        check_n_clusters(self.n_clusters, len(images))
        method, data = assemble(
            registered,
            self.config_,
            images,
            self.n_clusters,
            precision=self.precision,
            devices=self.devices,
        )
        with Reporter(None, 1, quiet=not self.verbose) as reporter:
            fitted = fit(method, data, seed=self._seed(), hooks=Calls(on_chunk=reporter.chunk))
        self._keep(fitted)
        prediction = predict(self._fitted(), images)
        self._n_features_out = prediction.features.shape[1]
        self.labels_ = prediction.assignments
        centroids = method.artifacts(fitted.state).get("centroids")
        if centroids is not None:
            self.cluster_centers_ = np.asarray(centroids)
        return self

    def _seed(self) -> int:
        given = self.random_state
        if given is None or isinstance(given, np.random.RandomState):
            return int(check_random_state(given).randint(2**31 - 1))
        settings.check_value("random_state", given, int)
        settings.check_bounds("random_state", given, settings.Bounds(0, 2**31 - 1))
        return int(given)

    def _keep(self, fitted: Fitted) -> None:
        """What predicting needs, as arrays and settings."""
        self._shape, self._dtype = fitted.shape, fitted.dtype
        self._normalisation = fitted.normalisation
        self._key = str(jax.random.key_impl(fitted.state.key))
        self._leaves = jax.tree.leaves(host_arrays(fitted.state))
        self.n_clusters_, self._compute = self.n_clusters, Compute(self.precision)
        self._compiled = None

    def _fitted(self) -> Fitted:
        """The fitted method on one device, rebuilt if it was pickled."""
        if self._compiled is None:
            registered = registry.find(self._method)
            spec = DataSpec(self._shape[0], self._shape[1:], self.n_clusters_)
            parts = registered.parts(self.config_)
            method = registered.build(self.config_, spec, self._compute, **parts)
            known = (self._shape, self._dtype, self._normalisation)
            state = state_of(method, self._leaves, *known, self._key)
            self._compiled = Fitted(
                method, state, self._normalisation, self._dtype, self._shape, {}, 0.0
            )
        return self._compiled

    def fit_predict(self, X: Any, y: Any = None, **kwargs: Any) -> np.ndarray:
        """Fit to images and return `labels_` int32 [n]; see :meth:`fit`."""
        return super().fit_predict(X, y, **kwargs)

    def predict(self, X: Any) -> np.ndarray:
        """Clusters int32 [n] of images shaped like those it was fitted on."""
        return np.asarray(self._predicted(X).assignments)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities float32 [n, k] of every cluster for images; rows sum to one."""
        return np.asarray(self._predicted(X).probabilities)

    def transform(self, X: Any) -> np.ndarray:
        """Features float32 [n, d] of images: what the method clusters."""
        return np.asarray(self._predicted(X).features)

    def _settings(self, registered: registry.Registered) -> Any:
        for name, kind in _KINDS.items():
            settings.check_value(name, getattr(self, name), kind)
        config = registered.config(self.preset)
        if self.config is not None:
            if type(self.config) is not type(config):
                kind = f"{type(config).__module__}.{type(config).__name__}"
                raise InputError(f"config must be a {kind}, not {self.config!r}")
            config = self.config
        given = {"epochs": self.epochs, "batch_size": self.batch_size, "starts": self.starts}
        known = {field.name for field in fields(config)}
        for name, value in given.items():
            if value is not None and name not in known:
                raise InputError(f"{type(self).__name__} has no setting ‹{name}›; leave it out")
        config = replace(config, **{name: v for name, v in given.items() if v is not None})
        settings.check(config)
        return config

    def _images(self, X: Any, *, reset: bool) -> np.ndarray:
        """What the method wants: images, uint8 or float32 [n, h, w, c]; features float32 [n, d]."""
        if isinstance(X, list):
            X = np.asarray(X)
        if self._of_features():
            features = self._rows(X, [np.float32], reset=reset)
            if reset:
                self.image_shape_ = features.shape[1:]
            return features
        shape: tuple[int, ...] | None = None
        if getattr(X, "ndim", 0) in {3, 4}:
            X = np.asarray(X)
            check_layout(X.shape)
            shape = X.shape[1:] if X.ndim == 4 else (*X.shape[1:], 1)
            if not reset and shape != self.image_shape_:
                raise InputError(f"fitted on images of shape {self.image_shape_}, not {shape}")
            X = X.reshape(len(X), -1)
        # uint8 stays; any other type becomes the first of these.
        rows = self._rows(X, [np.float32, np.uint8], reset=reset)
        if reset:
            self.image_shape_ = shape or self._shape_of(rows.shape[1])
        elif rows.dtype != self._dtype:
            raise InputError(
                f"fitted on {self._dtype} images, not {rows.dtype}; convert them to the same scale "
                "and type"
            )
        return rows.reshape(-1, *self.image_shape_)

    def _of_features(self) -> bool:
        settings.check_value("features", self.features, bool | None)
        registered = registry.find(self._method)
        only = self.features is None and registered.takes(8) and not registered.takes(28, 28, 1)
        return only or bool(self.features)

    def _rows(self, X: Any, kinds: list, *, reset: bool) -> Any:
        least = 2 if reset else 1
        return validate_data(self, X, reset=reset, dtype=kinds, ensure_min_samples=least)

    def _shape_of(self, width: int) -> tuple[int, ...]:
        """The shape of images given as rows of `width` values."""
        if self.image_shape is None:
            return image_shape(width)
        settings.check_value("image_shape", self.image_shape, tuple[int, int, int])
        shape = tuple(self.image_shape)
        if len(shape) != 3 or math.prod(shape) != width:
            raise InputError(
                f"‹image_shape› {shape} does not match {width} values; give height, width and "
                "channels"
            )
        return shape

    def _predicted(self, X: Any) -> Prediction:
        check_is_fitted(self)
        return predict(self._fitted(), self._images(X, reset=False))

    def __getstate__(self) -> dict[str, Any]:
        # Arrays and settings only: functions are compiled again when needed.
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


def named(name: str) -> type[ImageClusterer] | None:
    """The estimator with a name from the registry; None for any other name."""
    found = {entry.estimator: method for method, entry in registry.METHODS.items()}
    if name not in found or name is None:
        return None
    if name not in globals():
        entry = registry.METHODS[found[name]]
        about = f"{entry.about[0].upper()}{entry.about[1:]}."
        module = type(next(iter(entry.presets.values()))).__module__
        body = {
            "__doc__": f"{about}\n\n`config`: a `{module}.Config`. Otherwise as "
            ":class:`ImageClusterer`.\n",
            "__module__": __name__,
            "_method": found[name],
        }
        globals()[name] = type(name, (ImageClusterer,), body)
    return globals()[name]


def __getattr__(name: str) -> type[ImageClusterer]:
    found = None if name.startswith("_") else named(name)
    if found is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return found


def __dir__() -> list[str]:
    names = [entry.estimator for entry in registry.METHODS.values() if entry.estimator]
    return sorted([*names, "ImageClusterer", "image_shape", "named"])
