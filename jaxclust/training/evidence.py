"""What a run shows between epochs, without labels, to choose among starts."""

from collections import defaultdict
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxclust import metrics
from jaxclust.clustering import criteria
from jaxclust.core.rows import evenly_spread
from jaxclust.core.types import Method, Prediction, TrainState
from jaxclust.images.augment import Affine, random_affine
from jaxclust.training.hooks import Hook, Moment, Progress
from jaxclust.training.placement import Data
from jaxclust.training.prediction import predictor
from jaxclust.training.programs import once

# Images to look at; larger sets are sampled evenly.
_ROWS = 10_000
# Views that do not change what is in a picture.
_MILD = Affine(rotation=10.0, shift=0.08, zoom=0.1)
_NOISE = 0.1  # on features, of unit variance
_KEY = 7


def rows_of(n: int) -> np.ndarray:
    """The rows int [m] of a set of n images that are looked at."""
    return evenly_spread(n, _ROWS)


class Evidence(NamedTuple):
    """What is known about a clustering without labels."""

    criteria: dict[str, float]  # by name, higher is better; see :mod:`clustering.criteria`
    assignments: np.ndarray  # int32 [m]: of the images looked at, the same for every start


def _views(images: Array) -> Array:
    """A mild random view of each image [b, h, w, c]; for features [b, d], with noise."""
    key = jax.random.key(_KEY)
    if images.ndim == 2:
        return images + _NOISE * jax.random.normal(key, images.shape, images.dtype)
    return random_affine(key, images, _MILD)


def _of_views(method: Method) -> Method:
    """A method that predicts views of the images instead of the images."""

    def predict(state: TrainState, images: Array) -> Prediction:
        return method.predict(state, _views(images))

    made: Any = once(method, ("views",), lambda: method.replace(predict=predict))  # pyright: ignore[reportArgumentType]
    return made


class Witness(Hook):
    """Gathers :class:`Evidence` between the epochs of a run.

    Args:
        method: the one that is run.
        data: what it is run on.
    """

    def __init__(self, method: Method, data: Data) -> None:
        self.rows = rows_of(data.images.shape[0])
        self.plain, self.viewed = (predictor(m, data) for m in (method, _of_views(method)))
        self.before: np.ndarray | None = None
        self.losses: dict[tuple[str, int], list[float]] = defaultdict(list)

    def on_chunk(self, progress: Progress) -> None:
        """Keep the losses of the epoch that is being trained."""
        for step in progress.steps:
            self.losses[progress.phase, int(np.ceil(step["epoch"]))].append(step["loss"])

    def glance(self, state: TrainState) -> None:
        """Remember the assignments, to measure what changes until the next moment."""
        found = self.plain(state, fields=("assignments",), rows=self.rows)
        self.before = np.asarray(found.assignments)

    def evidence(self, moment: Moment) -> Evidence:
        """For the state after an epoch; with `stability` if :meth:`glance` saw the one before."""
        state, fields = moment.borrowed, ("assignments", "probabilities", "features")
        seen = self.plain(state, fields=fields, rows=self.rows)
        assignments = np.asarray(seen.assignments)
        views = self.viewed(state, fields=("assignments",), rows=self.rows).assignments
        found = {
            "confidence": criteria.confidence(seen.probabilities),
            "evenness": criteria.evenness(assignments, seen.probabilities.shape[1]),
            "silhouette": criteria.silhouette(seen.features, assignments),
            "views": criteria.agreement(assignments, views),
        }
        losses = self.losses.pop((moment.phase, moment.epoch), [])
        self.losses.clear()
        if losses:
            found["loss"] = -float(np.mean(losses))
        if self.before is not None:
            found["stability"] = metrics.nmi(self.before, assignments)
        self.before = assignments
        return Evidence(found, assignments)
