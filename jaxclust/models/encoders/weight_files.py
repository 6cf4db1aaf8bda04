"""Reading weight files, without running anything that is in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np

from jaxclust.core.errors import InputError, first_line

# Arrays by the names they have in the file.
Weights: TypeAlias = Mapping[str, np.ndarray]


def read(path: Path) -> Weights:
    """The arrays of a .safetensors, .npz or, where torch is installed, .pth file by name.

    No pickle is loaded but through torch's `weights_only` loading.

    Raises:
        InputError: no such file, another format, or a damaged file.
    """
    if not path.is_file():
        raise InputError(
            f"there is no weights file {path}; --init takes random, autoencoder or the path of a "
            ".safetensors, .npz or .pth file"
        )
    kind = path.suffix.lower()
    try:
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays}
        if kind == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        if kind in {".pth", ".pt"}:
            import torch

            found = torch.load(path, map_location="cpu", weights_only=True)
            found = found.get("state_dict", found)
            return {
                name.removeprefix("module."): value.numpy()
                for name, value in found.items()
                if isinstance(value, torch.Tensor)
            }
    except ModuleNotFoundError as error:
        raise InputError(
            f"reading {path} needs {error.name}: pip install {error.name}, or convert the file to "
            ".npz"
        ) from error
    except Exception as error:  # each library has kinds of its own for a damaged file
        raise InputError(f"{path} cannot be read as {kind} ({first_line(error)})") from error
    raise InputError(f"{path} is no weights file by its name: .safetensors, .npz or .pth")
