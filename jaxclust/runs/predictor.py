"""A finished run as a function of batches, for data pipelines on many machines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from jaxclust.core.errors import InputError
from jaxclust.core.keys import generator, host_arrays
from jaxclust.data.places import MAX_MEGAPIXELS, Reading, Rules, View
from jaxclust.data.resizing import Resized, with_channels
from jaxclust.runs import embedding
from jaxclust.runs.labelling import built, encoder_of, reopen
from jaxclust.training.placement import put
from jaxclust.training.prediction import BLOCK, predictor
from jaxclust.training.saving import state_of

# What a batch's images or features may be called.
_COLUMNS = ("image", "features")


class _Content(NamedTuple):
    """All that a pickle holds: plain data and arrays."""

    record: dict[str, Any]  # the run's config.json
    leaves: list[np.ndarray]  # of its state
    key_impl: str  # of the state's key


def _scale(record: dict[str, Any]) -> np.ndarray | None:
    """What each column of features by several encoders is divided by; None for all others.

    Raises:
        InputError: a run of an earlier version, which did not record how many columns each has.
    """
    scales = record["data"].get("scales")
    if not scales:
        return None
    if "spaces" not in record:
        raise InputError(
            "the run is of features by several encoders, and the version that made it did not "
            "record their widths; label with `jaxclust predict RUN A,B`, or run it again"
        )
    return np.repeat(np.float32(scales), record["spaces"])


class Predictor:
    """Labels batches of images or features as `jaxclust predict` does, for data pipelines.

    Ray Data's `map_batches`, Spark's `mapInPandas` and the like call it with a batch at a time, in
    processes of their own. A pickle holds the model's arrays and settings, not the run's folder; it
    needs jaxclust where it is loaded, and the encoder's weights if the run has an encoder.

    Args:
        run: a finished run's folder.

    Raises:
        InputError: no finished run, one without a checkpoint, or one of an earlier version whose
            features, by several encoders, cannot be told apart.
    """

    def __init__(self, run: Path | str) -> None:
        opened = reopen(Path(run))
        leaves = jax.tree.leaves(host_arrays(opened.state))
        self._content = _Content(opened.record, leaves, str(generator(opened.state.key)))
        self._method, self._spec, self._dtype = opened.method, opened.spec, opened.dtype
        self._normalisation, self._state = opened.normalisation, opened.state
        self._encoding, self._scale = self._own_encoding(), _scale(opened.record)

    @classmethod
    def load(cls, run: Path | str) -> Self:
        """The predictor of a finished run's folder."""
        return cls(run)

    def __getstate__(self) -> dict[str, Any]:
        return self._content._asdict()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._content = _Content(**state)
        record, leaves, key_impl = self._content
        method, _, self._spec, self._dtype, normalisation = built(record)
        self._method, self._normalisation = method, normalisation
        shape = (self._spec.n_images, *self._spec.shape)
        self._state = state_of(method, leaves, shape, self._dtype, normalisation, key_impl)
        self._encoding, self._scale = self._own_encoding(), _scale(record)

    def _own_encoding(self) -> embedding.Encoding | None:
        """The run's encoder, if it has one."""
        record = self._content.record
        return embedding.Encoding(encoder_of(record)) if "encoder" in record["data"] else None

    @property
    def reading(self) -> Reading:
        """How image files are read for the run, before they are given to :meth:`of_files`."""
        known, shape = self._content.record["data"], self._spec.shape
        most = self._content.record["options"].get("max_megapixels", MAX_MEGAPIXELS)
        rules = Rules(most, known.get("value_ranges") or {})
        if "encoder" in known:
            return Reading(None, None, rules).seen_by(View(*known["encoder"]["view"]))
        return Reading(shape[0] if len(shape) == 3 else None, None, rules)

    @property
    def channels(self) -> int:
        """Channels of the images that the run, or its encoder, takes; 1 or 3."""
        return 3 if self._encoding is not None else self._spec.shape[-1]

    def of_files(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Labels of images that were read as :attr:`reading` says: uint8 [b, h, w, channels]."""
        if self._encoding is not None:
            return self({"features": self._encoding.of(images)})
        return self({"image": images})

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Labels of a batch.

        Args:
            batch: arrays by name, of one length: `image` [b, h, w, c] or `features` [b, d], of
                the run's shape and dtype (with an encoder: uint8 of any size; features by several
                encoders as they are in their files, side by side); the others are passed on.

        Returns:
            The other arrays, and `cluster` int32 [b] and `confidence` float32 [b].

        Raises:
            InputError: no such array, or one of another kind.
        """
        if not isinstance(batch, Mapping):
            raise InputError(
                f"a batch is a dict of arrays, as {{'image': images}}, not {type(batch).__name__}"
            )
        name = next((name for name in _COLUMNS if name in batch), None)
        if name is None:
            raise InputError(f"a batch needs an array `image` or `features`, not {sorted(batch)}")
        rest = {key: np.asarray(value) for key, value in batch.items() if key != name}
        values = self._values(np.asarray(batch[name]))
        if not len(values):
            empty = np.zeros(0, np.float32)
            return {**rest, "cluster": empty.astype(np.int32), "confidence": empty}
        clusters, probabilities = self._predicted(values)
        confidence = probabilities[np.arange(len(clusters)), clusters]
        return {**rest, "cluster": clusters, "confidence": confidence}

    def _predicted(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Clusters and probabilities; programs of one size make them independent of the batch's."""
        short = -len(values) % BLOCK
        filled = np.concatenate([values, np.repeat(values[-1:], short, axis=0)])
        data = put(filled, self._normalisation)
        found = predictor(self._method, data)(
            self._state, fields=("assignments", "probabilities"), rows=np.arange(len(values))
        )
        return np.asarray(found.assignments), np.asarray(found.probabilities)

    def _values(self, given: np.ndarray) -> np.ndarray:
        """What the method sees, of the run's shape and dtype."""
        if self._encoding is not None and given.ndim == 4 and len(given):
            return self._encoded(given, self._encoding)
        shape = self._spec.shape
        if len(shape) == 3 and given.ndim == 3:
            given = given[..., None]
        if given.ndim == 4 and len(shape) == 3:
            given = with_channels(given, shape[2])
        if given.shape[1:] != shape or given.dtype != self._dtype:
            raise InputError(
                f"the run used {self._dtype} arrays of shape {shape}, but the batch has "
                f"{given.dtype} of {given.shape[1:]}; convert it to match"
            )
        return given if self._scale is None else given / self._scale

    def _encoded(self, images: np.ndarray, encoding: embedding.Encoding) -> np.ndarray:
        """Features of images by the run's encoder."""
        if images.dtype != np.uint8:
            raise InputError(f"an encoder needs uint8 images, not {images.dtype}")
        view = View(*self._content.record["data"]["encoder"]["view"])
        resized = Resized(
            images, view.size, view.resampling, whole=view.whole, margin=view.margin or 1.0
        )
        return encoding.of(resized)
