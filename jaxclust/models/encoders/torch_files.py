"""PyTorch's weight files, read without PyTorch and without running what is in them.

Both formats hold a pickle that says how tensors lie in raw storages. Here that pickle may name
tensors, storages and dictionaries and nothing else; any other name is refused, so that a file
can call no function of its choice. What is made of a file takes no more memory than a few times
its size: tensors are views of its storages, and whatever a pickle could multiply is counted.
"""

import io
import math
import os
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

# What the older of the two formats begins with.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Deeper dictionaries and longer names hold no weights that anything here looks for.
_DEPTH, _LONGEST = 4, 1000
_DIMENSIONS = 64  # NumPy has no more
_LARGEST = 2**63  # beyond every place in a file
_TOO_MUCH = "it repeats its contents, which torch.save does not do"
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}

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
    if max(len(shape), len(strides)) > _DIMENSIONS or max((offset, *shape, *strides)) >= _LARGEST:
        raise ValueError("a tensor with an impossible shape")
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


def _size(shape: Any) -> tuple:
    """What replaces torch.Size; nothing here reads one."""
    return tuple(shape[:_DIMENSIONS])


def _length(file: Any) -> int:
    """Bytes of the pickle that begins here, which is read but not followed.

    Python's unpickler makes room for the largest place that a pickle names in its memo, so a
    place is refused that no pickle of this length has.
    """
    begin = file.tell()
    place: Any
    for code, place, at in pickletools.genops(file):
        if code.name in _MEMO and int(place) > at - begin:
            raise ValueError("its pickle is damaged")
    length = file.tell() - begin
    file.seek(begin)
    return length


class _Reader(pickle.Unpickler):
    """An unpickler of the next pickle in a file that knows only the names in `find_class`."""

    def __init__(self, file: Any) -> None:
        # Everything in a pickle that is there but once takes a byte or more.
        self.length = _length(file)
        self._left, self._walked = self.length, 0
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def _dictionary(self, items: Any = ()) -> OrderedDict:
        """An ordered dictionary; older Pythons wrote its items as an argument."""
        self._left -= len(items)
        if self._left < 0:
            raise ValueError(_TOO_MUCH)
        return OrderedDict(items)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): self._dictionary,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_tensor"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch", "Size"): _size,
        }
        if module_name == "torch" and global_name in _TYPES:
            return np.dtype(_TYPES[global_name])
        if (module_name, global_name) not in known:
            raise ValueError(
                f"it asks for {module_name}.{global_name}, which is no part of a tensor; save "
                "the weights alone (state_dict) and give that file"
            )
        return known[module_name, global_name]

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, dtype, key, _, count, *view = pid
        known = kind == "storage" and isinstance(dtype, np.dtype) and isinstance(key, str)
        if not known or any(view):
            raise ValueError("a storage of an unknown kind")
        found = _Storage(key, dtype, int(count))
        if self.storages.setdefault(found.key, found) != found:
            raise ValueError(f"storage {key} is described twice")
        return found

    def tensors(self) -> dict[str, _Tensor]:
        """The tensors in the pickle by name, those of inner dictionaries as `outer.name`.

        All else is passed over.
        """
        return dict(self._named(self.load(), "", 0))

    def _named(self, found: Any, prefix: str, depth: int) -> Iterator[tuple[str, _Tensor]]:
        if not isinstance(found, dict) or depth > _DEPTH:
            return
        # One dictionary in many places is walked through in each.
        self._walked += len(found)
        if self._walked > self.length:
            raise ValueError(_TOO_MUCH)
        for name, value in found.items():
            # Names of numbers are an optimiser's.
            if not isinstance(name, str) or len(name) > _LONGEST:
                continue
            if isinstance(value, _Tensor):
                yield f"{prefix}{name}", value
            else:
                yield from self._named(value, f"{prefix}{name}.", depth + 1)


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
        found = _Reader(io.BytesIO(content("data.pkl"))).tensors()
        size = os.fstat(file.fileno()).st_size
        return _arrays(found, lambda storage: content(f"data/{storage.key}"), size)


def _from_pickles(file: BinaryIO) -> dict[str, np.ndarray]:
    if _Reader(file).load() != _MAGIC or _Reader(file).load() != _PROTOCOL:
        raise ValueError("it is not a torch.save file")
    system = _Reader(file).load()
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    reader = _Reader(file)
    found, keys = reader.tensors(), _Reader(file).load()
    left, contents = os.fstat(file.fileno()).st_size, {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little", signed=True)
        size = reader.storages[key].dtype.itemsize * count
        if count != reader.storages[key].length or size > left:
            raise ValueError(f"storage {key} is incomplete")
        contents[key] = file.read(size)
    return _arrays(found, lambda storage: contents[storage.key], left)


def _arrays(
    tensors: dict[str, _Tensor], content: Callable[[_Storage], bytes], most: int
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
                raise ValueError(_TOO_MUCH)
            storages[key] = np.frombuffer(raw, dtype)
        flat = storages[key]
        steps = [step * dtype.itemsize for step in tensor.strides]
        arrays[name] = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :], tensor.shape, steps, writeable=False
        )
    return arrays
