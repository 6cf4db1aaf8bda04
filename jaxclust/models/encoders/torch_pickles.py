"""PyTorch's pickles of weights, read without running what is in them.

They may name tensors, storages and dictionaries and nothing else. Any other name is refused, so
that a file can call no function of its choice, and so is every instruction that no tensor needs.
"""

import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import ml_dtypes
import numpy as np

# Python's own unpickler, not C's: single instructions of it can be refused.
_PYTHONS: Any = getattr(pickle, "_Unpickler")  # noqa: B009
# Deeper dictionaries and longer names hold no weights that anything here looks for.
_DEPTH, _LONGEST = 4, 1000
_DIMENSIONS = 64  # NumPy has no more
_LARGEST = 2**63  # beyond every place in a file
REPEATED = "it repeats its contents, which torch.save does not do"
_MORE = "it holds more than tensors, numbers and text in dictionaries and lists"
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


class Storage(NamedTuple):
    """A run of numbers that tensors are cut from."""

    key: str
    dtype: np.dtype
    length: int


class Tensor(NamedTuple):
    """A tensor as the pickle describes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    """What replaces PyTorch's own rebuilding of a tensor."""
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    # The pickle's own tuples are kept, as copies could be many.
    fits = isinstance(shape, tuple) and isinstance(strides, tuple)
    if not fits or len(shape) != len(strides) or len(shape) > _DIMENSIONS:
        raise ValueError("a tensor with an impossible shape")
    numbers = (offset, *shape, *strides)
    if any(type(n) is not int for n in numbers) or min(numbers) < 0 or max(numbers) >= _LARGEST:
        raise ValueError("a tensor with an impossible shape")
    tensor = Tensor(storage, offset, shape, strides)
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    size = math.prod(tensor.shape)
    # A tensor with more numbers than its storage could let a small file fill the memory.
    if size > storage.length or (size and tensor.offset + reach >= storage.length):
        raise ValueError("a tensor that reaches beyond its storage")
    return tensor


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _size(shape: Any) -> tuple:
    """What replaces torch.Size."""
    return shape if isinstance(shape, tuple) else ()


def _check_keys(keys: Iterable[Any]) -> None:
    """ValueError for keys that no weights have; a tuple's hash may exhaust the stack."""
    for key in keys:
        if not isinstance(key, str | bytes | int | float | None):
            raise ValueError("it holds a dictionary whose keys are neither names nor numbers")


def _length(file: Any) -> int:
    """Bytes of the pickle that begins here, which is read but not followed.

    A place in the memo that no pickle of this length has is refused: C's unpickler, which this one
    may be replaced by, makes room for the largest.
    """
    begin = file.tell()
    place: Any
    for code, place, at in pickletools.genops(file):
        if code.name in _MEMO and int(place) > at - begin:
            raise ValueError("its pickle is damaged")
    length = file.tell() - begin
    file.seek(begin)
    return length


class Reader(_PYTHONS):
    """An unpickler of the next pickle in a file that knows only the names in `find_class`."""

    dispatch: ClassVar[dict[int, Any]]

    def __init__(self, file: Any) -> None:
        # Everything in a pickle that is there but once takes a byte or more.
        self.length = _length(file)
        self._left, self._walked = self.length, 0
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def _dictionary(self, items: Any = ()) -> OrderedDict:
        """An ordered dictionary; older Pythons wrote its items as an argument."""
        self._left -= len(items)
        if self._left < 0:
            raise ValueError(REPEATED)
        _check_keys(key for key, _ in items)
        return OrderedDict(items)

    def load_build(self) -> None:
        """A state: PyTorch gives one to dictionaries of weights, and nothing here reads it."""
        self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict:
            raise ValueError(_MORE)

    def load_setitem(self) -> None:
        """An item of a dictionary."""
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Items of a dictionary."""
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        """A dictionary and its items."""
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_refused(self) -> None:
        """An instruction that no tensor needs."""
        raise ValueError(_MORE)

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

    def persistent_load(self, pid: Any, /) -> Storage:
        kind, dtype, key, _, count, *view = pid
        known = kind == "storage" and isinstance(dtype, np.dtype) and isinstance(key, str)
        if not known or any(view):
            raise ValueError("a storage of an unknown kind")
        found = Storage(key, dtype, int(count))
        if self.storages.setdefault(found.key, found) != found:
            raise ValueError(f"storage {key} is described twice")
        return found

    def tensors(self) -> dict[str, Tensor]:
        """The tensors in the pickle by name, those of inner dictionaries as `outer.name`.

        All else is passed over.
        """
        return dict(self._named(self.load(), "", 0))

    def _named(self, found: Any, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
        if not isinstance(found, dict) or depth > _DEPTH:
            return
        # One dictionary in many places is walked through in each.
        self._walked += len(found)
        if self._walked > self.length:
            raise ValueError(REPEATED)
        for name, value in found.items():
            # Names of numbers are an optimiser's.
            if not isinstance(name, str) or len(name) > _LONGEST:
                continue
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            else:
                yield from self._named(value, f"{prefix}{name}.", depth + 1)


_OWN = {
    pickle.BUILD: Reader.load_build,
    pickle.SETITEM: Reader.load_setitem,
    pickle.SETITEMS: Reader.load_setitems,
    pickle.DICT: Reader.load_dict,
}
_REFUSED = (
    pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2,
    pickle.EXT4, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.BYTEARRAY8,
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER,
)  # fmt: skip
Reader.dispatch = {
    **_PYTHONS.dispatch,
    **{code[0]: load for code, load in _OWN.items()},
    **{code[0]: Reader.load_refused for code in _REFUSED},
}
