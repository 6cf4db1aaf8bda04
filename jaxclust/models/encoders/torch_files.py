"""PyTorch's weight files, read without PyTorch and without running what is in them.

Both formats hold a pickle that says how tensors lie in raw storages. Here that pickle may name
tensors, storages and dictionaries and nothing else; any other name is refused, so that a file
can call no function of its choice.
"""

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

# What the older of the two formats begins with.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Deeper dictionaries hold no weights that anything here looks for.
_DEPTH = 4

_TYPES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class _Storage(NamedTuple):
    """A run of numbers that tensors are cut from."""

    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    """A tensor as the pickle describes it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """What replaces PyTorch's own rebuilding of a tensor."""
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    tensor = _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
    if len(tensor.shape) != len(tensor.strides) or min((offset, *shape, *strides), default=0) < 0:
        raise ValueError("a tensor with an impossible shape")
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    size = math.prod(tensor.shape)
    # A tensor with more numbers than its storage could let a small file fill the memory.
    if size > storage.length or (size and tensor.offset + reach >= storage.length):
        raise ValueError("a tensor that reaches beyond its storage")
    return tensor


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): np.dtype(kind) for name, kind in _TYPES.items()},
}


class _Reader(pickle.Unpickler):
    """An unpickler that knows only the names of :data:`_KNOWN`."""

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        known = _KNOWN.get((module_name, global_name))
        if known is None:
            raise ValueError(
                f"it asks for {module_name}.{global_name}, which is no part of a tensor; save "
                "the weights alone (state_dict) and give that file"
            )
        return known

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype) or any(view):
            raise ValueError("a storage of an unknown kind")
        found = _Storage(str(key), dtype, int(count))
        if self.storages.setdefault(found.key, found) != found:
            raise ValueError(f"storage {key} is described twice")
        return found


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
        found = _Reader(io.BytesIO(content("data.pkl"))).load()
        return _arrays(found, lambda storage: content(f"data/{storage.key}"))


def _from_pickles(file: BinaryIO) -> dict[str, np.ndarray]:
    if _Reader(file).load() != _MAGIC or _Reader(file).load() != _PROTOCOL:
        raise ValueError("it is not a torch.save file")
    system = _Reader(file).load()
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    reader = _Reader(file)
    found, keys = reader.load(), _Reader(file).load()
    left, contents = os.fstat(file.fileno()).st_size, {}
    for key in map(str, keys):
        count = int.from_bytes(file.read(8), "little", signed=True)
        size = reader.storages[key].dtype.itemsize * count
        if count != reader.storages[key].length or size > left:
            raise ValueError(f"storage {key} is incomplete")
        contents[key] = file.read(size)
    return _arrays(found, lambda storage: contents[storage.key])


def _tensors(found: Any, prefix: str = "", depth: int = 0) -> dict[str, _Tensor]:
    """The tensors of nested dictionaries by name; all else is passed over."""
    if not isinstance(found, dict) or depth > _DEPTH:
        return {}
    tensors = {}
    for name, value in found.items():
        if isinstance(value, _Tensor):
            tensors[f"{prefix}{name}"] = value
        else:
            tensors |= _tensors(value, f"{prefix}{name}.", depth + 1)
    return tensors


def _arrays(found: Any, content: Callable[[_Storage], bytes]) -> dict[str, np.ndarray]:
    """The tensors as arrays of their own."""
    storages: dict[str, np.ndarray] = {}
    arrays = {}
    for name, tensor in _tensors(found).items():
        key, dtype, count = tensor.storage
        if key not in storages:
            raw = content(tensor.storage)
            if len(raw) != count * dtype.itemsize:
                raise ValueError(f"storage {key} of {name} is incomplete")
            storages[key] = np.frombuffer(raw, dtype)
        flat = storages[key]
        steps = [step * dtype.itemsize for step in tensor.strides]
        cut = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, steps)
        arrays[name] = cut.copy()
    return arrays
