"""PyTorch's weight files, read without PyTorch and without running what is in them.

Both formats hold a pickle that says how tensors lie in raw storages; see `torch_pickles`. What is
made of a file takes no more memory than a few times its size: tensors are views of its storages,
and whatever a pickle could multiply is counted.
"""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxclust.models.encoders.torch_pickles import REPEATED, Reader, Storage, Tensor

# What the older of the two formats begins with.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `torch.save` file by name, those of inner dictionaries as `outer.name`.

    Args:
        path: in either of PyTorch's formats, the zip archive or the older run of pickles.

    Raises:
        ValueError, OSError, pickle.UnpicklingError, zipfile.BadZipFile: the file is damaged, or
            holds anything but tensors, numbers and text in dictionaries and lists.
    """
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            return _from_zip(file)
        file.seek(0)
        return _from_pickles(file)


def _from_zip(file: BinaryIO) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError("the archive is not one of torch.save")
        root = names[0].removesuffix("data.pkl")

        def content(name: str) -> bytes:
            info = archive.getinfo(root + name)
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("the archive is compressed, which torch.save never does")
            return archive.read(info)

        if f"{root}byteorder" in archive.namelist() and content("byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        found = Reader(io.BytesIO(content("data.pkl"))).tensors()
        size = os.fstat(file.fileno()).st_size
        return _arrays(found, lambda storage: content(f"data/{storage.key}"), size)


def _from_pickles(file: BinaryIO) -> dict[str, np.ndarray]:
    if Reader(file).load() != _MAGIC or Reader(file).load() != _PROTOCOL:
        raise ValueError("it is not a torch.save file")
    system = Reader(file).load()
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    reader = Reader(file)
    found, keys = reader.tensors(), Reader(file).load()
    left, contents = os.fstat(file.fileno()).st_size, {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        size = reader.storages[key].dtype.itemsize * count
        if count != reader.storages[key].length or size > left:
            raise ValueError(f"storage {key} is incomplete")
        contents[key] = file.read(size)
    return _arrays(found, lambda storage: contents[storage.key], left)


def _arrays(
    tensors: dict[str, Tensor], content: Callable[[Storage], bytes], most: int
) -> dict[str, np.ndarray]:
    """The tensors as views of their storages, which have at most so many bytes together."""
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in tensors.items():
        key, dtype, count = tensor.storage
        if key not in storages:
            raw = content(tensor.storage)
            if len(raw) != count * dtype.itemsize:
                raise ValueError(f"storage {key} of {name} is incomplete")
            most -= len(raw)
            if most < 0:  # entries of the archive that overlap
                raise ValueError(REPEATED)
            storages[key] = np.frombuffer(raw, dtype)
        flat = storages[key]
        steps = [step * dtype.itemsize for step in tensor.strides]
        arrays[name] = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :], tensor.shape, steps, writeable=False
        )
    return arrays
