"""Reading weight files, without running anything that is in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from jaxclust.core.errors import InputError, first_line
from jaxclust.core.unpacking import refuse_bomb
from jaxclust.models.encoders import torch_files

# Arrays by the names they have in the file.
Weights: TypeAlias = Mapping[str, np.ndarray]


def read(path: Path) -> Weights:
    """The arrays of a .safetensors, .npz or .pth file by name.

    From a .pth file only tensors are made; see :mod:`torch_files`.

    Raises:
        InputError: no such file, another format, or a damaged file.
    """
    if not path.is_file():
        raise InputError(
            f"there is no weights file {path}; --init takes random, autoencoder or the path of a "
            ".safetensors, .npz or .pth file, --encoder the path or a name"
        )
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            refuse_bomb(path)
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays}
        if kind == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        if kind in {".pth", ".pt", ".bin"}:
            return _named(torch_files.read(path))
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(
            f"reading {path} needs {error.name}: pip install {error.name}, or convert the file to "
            ".npz"
        ) from error
    except Exception as error:  # each library raises its own errors for a damaged file
        raise InputError(f"{path} cannot be read as {kind} ({first_line(error)})") from error
    raise InputError(f"{path} is not named like a weights file: .safetensors, .npz or .pth")


def _named(found: Weights) -> Weights:
    """The weights of a checkpoint, under the names its network gave them."""
    for outer in ("state_dict.", "model."):
        # Hugging Face's newer DINOv3 has its layers alone behind "model.".
        if any(name.startswith("embeddings.") for name in found):
            break
        inner = {n.removeprefix(outer): v for n, v in found.items() if n.startswith(outer)}
        found = inner or found
    return {name.removeprefix("module."): value for name, value in found.items()}
