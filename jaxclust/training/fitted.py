"""A fitted method: its state, and what it predicts for images."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.serialization import to_state_dict
from flax.traverse_util import flatten_dict

from jaxclust.core.errors import InputError
from jaxclust.core.types import Method, Prediction, TrainState
from jaxclust.images.normalisation import Normalisation
from jaxclust.training.placement import Data, put, usable
from jaxclust.training.prediction import predictor
from jaxclust.training.warm_start import WarmStart


class Fitted(NamedTuple):
    """The result of :func:`training.fit`; saved by `jaxclust.save`."""

    method: Method
    state: TrainState
    normalisation: Normalisation  # of the stored values
    dtype: np.dtype  # of the images fitted on, as stored
    shape: tuple[int, ...]  # of them, [n, h, w, c] or [n, d]
    seconds: dict[str, float]  # by phase, and of starts that were not chosen
    images_per_second: float  # over all steps of the last phase that has any
    # The result of its pre-training, for `fit(start=…)`; None without any
    pretrained: WarmStart | None = None
    # How it was chosen among several starts (`starts.Round`); empty for a single one
    rounds: tuple[Any, ...] = ()

    def predict(self, images: Any) -> np.ndarray:
        """Clusters int32 [n] of images like those it was fitted on."""
        return np.asarray(predict(self, images).assignments)

    def parameters(self) -> dict[str, np.ndarray]:
        """Trained parameters and statistics as arrays by name: `params/network/…`."""
        tree = to_state_dict({"params": self.state.params, **to_state_dict(self.state.model_state)})
        return {name: np.asarray(value) for name, value in flatten_dict(tree, sep="/").items()}

    def export(self, path: Path | str) -> None:
        """Write :meth:`parameters` to a .npz or .safetensors file, for other programs.

        Raises:
            InputError: another file extension, or safetensors is not installed.
        """
        path = Path(path)
        if path.suffix == ".npz":
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **self.parameters())
            return
        if path.suffix != ".safetensors":
            raise InputError(f"{path} must end in .npz or .safetensors")
        try:
            from safetensors.numpy import save_file
        except ImportError as error:
            raise InputError(
                "writing .safetensors needs safetensors; pip install 'jaxclust[weights]'"
            ) from error
        save_file(self.parameters(), path)


def predict(fitted: Fitted, images: Any) -> Prediction:
    """What a fitted method predicts for images: clusters, probabilities, features.

    Args:
        fitted: see :func:`training.fit`, or :func:`saving.load`.
        images: like those it was fitted on: the same height, width, channels and type.

    Returns:
        A :class:`types.Prediction` of NumPy arrays.

    Raises:
        InputError: images of another kind.
    """
    images = images.images if isinstance(images, Data) else usable(images)
    if tuple(images.shape[1:]) != fitted.shape[1:] or images.dtype != fitted.dtype:
        raise InputError(
            f"fitted on {fitted.dtype} images of shape {fitted.shape[1:]}, but these are "
            f"{images.dtype} of {tuple(images.shape[1:])}; convert them to match"
        )
    data = put(images, fitted.normalisation)
    state = jax.tree.map(lambda leaf: leaf, fitted.state)
    return predictor(fitted.method, data)(state)
