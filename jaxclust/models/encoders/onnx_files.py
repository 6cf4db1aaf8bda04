"""Any encoder that ONNX Runtime runs: one image input, one vector or map or row of tokens out."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxclust.core.errors import InputError, first_line

# Where the file names no size.
_SIDE = 224
_MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
_STD = np.array([0.229, 0.224, 0.225], np.float32) * 255


class Session(NamedTuple):
    """A file that ONNX Runtime has opened."""

    run: Any  # onnxruntime's session
    feed: str  # the input's name
    side: int
    channels_first: bool
    width: int  # of the features
    batch: int | None  # images per call, where the file fixes their number

    def features(self, images: np.ndarray) -> np.ndarray:
        """Images uint8 [b, side, side, 3] -> float32 [b, width].

        Values are normalised by ImageNet's mean and deviation. Maps [b, c, h, w] are averaged over
        positions, tokens [b, n, c] over tokens.
        """
        if self.batch is not None and len(images) != self.batch:
            return self._in_batches(images, self.batch)
        values = (images.astype(np.float32) - _MEAN) / _STD
        if self.channels_first:
            values = values.transpose(0, 3, 1, 2)
        found = np.asarray(self.run.run(None, {self.feed: np.ascontiguousarray(values)})[0])
        if found.ndim == 4:
            found = found.mean(axis=(2, 3) if self.channels_first else (1, 2))
        elif found.ndim == 3:
            found = found.mean(axis=1)
        return np.asarray(found.reshape(len(images), -1), np.float32)

    def _in_batches(self, images: np.ndarray, size: int) -> np.ndarray:
        """The same for any number of images; the last batch is filled up."""
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            full = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append(self.features(full)[: len(part)])
        return np.concatenate(parts)


def load(path: Path) -> Session:
    """Open an .onnx file.

    Raises:
        InputError: ONNX Runtime is not installed, no such file, or not one image in and one
            array out.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("‹encoder› onnx:FILE needs pip install 'jaxclust[onnx]'") from error
    if not path.is_file():
        raise InputError(f"there is no ONNX file {path}")
    try:
        run: Any = onnxruntime.InferenceSession(str(path), providers=_providers(onnxruntime))
    except Exception as error:  # of a damaged file, of operations it does not know
        raise InputError(
            f"{path} cannot be opened by ONNX Runtime ({first_line(error)})"
        ) from error
    inputs, outputs = run.get_inputs(), run.get_outputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        said = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise InputError(f"{path} must take one float input of images [n, 3, h, w], not {said}")
    if len(outputs) != 1:
        names = ", ".join(one.name for one in outputs)
        raise InputError(f"{path} must give one array, not {len(outputs)} ({names})")
    shape = inputs[0].shape
    channels_first = shape[1] == 3 or shape[3] != 3
    sides = shape[2:] if channels_first else shape[1:3]
    side = next((side for side in sides if isinstance(side, int)), _SIDE)
    batch = shape[0] if isinstance(shape[0], int) else None
    session = Session(run, inputs[0].name, side, channels_first, 0, batch)
    try:
        example = session.features(np.zeros((1, side, side, 3), np.uint8))
    except Exception as error:
        raise InputError(f"{path} rejects images of {side} pixels ({first_line(error)})") from error
    return session._replace(width=example.shape[1])


def _providers(onnxruntime: Any) -> list[str]:
    """CUDA where this build has it, else the CPU."""
    known = onnxruntime.get_available_providers()
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]


# A tensor's external data: the key `location` and its value, as protocol buffers write them.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])")


def weights_beside(file: Path) -> list[Path]:
    """The files in which a model keeps weights outside its own, in order.

    Args:
        file: the model; it names them relative to its folder.
    """
    content = file.read_bytes()
    names = {
        content[found.end() : found.end() + found[1][0]] for found in _LOCATION.finditer(content)
    }
    paths = (file.parent / os.fsdecode(name) for name in sorted(names) if b"\0" not in name)
    return [path for path in paths if path.is_file()]
