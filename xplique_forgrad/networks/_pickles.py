"""
Weights from pickles, by unpicklers that admit arrays and nothing else.
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

# what a file of `torch.save` begins with, before torch 1.6 made it a zip
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_TYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


class _View(NamedTuple):
    """A tensor as a pickle of torch names it: where in which storage."""

    storage: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _view(storage: tuple[str, np.dtype], offset: int, shape: Any, strides: Any, *_: Any) -> _View:
    """What stands for `torch._utils._rebuild_tensor_v2`."""
    return _View(*storage, offset, tuple(shape), tuple(strides))


# `_reconstruct` has two homes, before and after NumPy 2
_reconstruct = np.empty(0).__reduce__()[0]
_NUMPY = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
}
_TORCH: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    **{("torch", name): dtype for name, dtype in _TORCH_TYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Reads plain Python values, and of all named objects those that are admitted."""

    def __init__(self, file: BinaryIO, admitted: Mapping[tuple[str, str], Any]):
        super().__init__(file, encoding="latin1")
        self._admitted = admitted

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._admitted[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, and only arrays are read from it"
            ) from None

    def persistent_load(self, identity: Any) -> tuple[str, np.dtype]:
        kind, dtype, key = identity[:3]
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f"it asks for {kind!r} of {dtype!r}, not for a storage")
        return str(key), dtype


def read_arrays(path: Path) -> dict[str, Any]:
    """
    Arrays of a pickle of NumPy arrays, in a dictionary.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    arrays :
        Name, and its array or list of arrays.

    Raises
    ------
    ValueError
        If the file holds anything else. Nothing of it is run.
    """
    with path.open("rb") as file:
        content = _load(path, file, _NUMPY)
    for value in content.values() if isinstance(content, dict) else [content]:
        arrays = value if isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(array, np.ndarray) and not array.dtype.hasobject for array in arrays):
            raise ValueError(f"{path} is not as expected: it holds other things than arrays.")
    return content


def read_state_dictionary(path: Path) -> dict[str, np.ndarray]:
    """
    Arrays of a state dictionary of PyTorch, in its format before version 1.6; needs no PyTorch.

    The file is three short pickles, a pickle that names each tensor's storage, a list of storages,
    and for each its number of values and the values.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    arrays :
        Name of a tensor and its values.

    Raises
    ------
    ValueError
        If the file holds anything else, or not whole. Nothing of it is run.
    """
    with path.open("rb") as file:
        if _load(path, file, {}) != _TORCH_MAGIC:
            raise ValueError(f"{path} is no state dictionary of PyTorch before version 1.6.")
        for _ in range(2):
            _load(path, file, {})
        views = _load(path, file, _TORCH)
        types = {view.storage: view.dtype for view in views.values()}
        storages = {}
        for key in _load(path, file, {}):
            dtype = types.get(key, np.dtype("u1"))
            size = int.from_bytes(file.read(8), "little")
            values = file.read(size * dtype.itemsize)
            if len(values) != size * dtype.itemsize:
                raise ValueError(f"{path} is not whole; install its package again.")
            storages[key] = np.frombuffer(values, dtype)
    try:
        return {name: _array(view, storages[view.storage]) for name, view in views.items()}
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path} is not as expected: a tensor has no values.") from error


def _array(view: _View, storage: np.ndarray) -> np.ndarray:
    """The tensor's values; an index out of the storage raises an IndexError."""
    indices = np.full(view.shape, view.offset)
    for axis, (length, stride) in enumerate(zip(view.shape, view.strides)):
        along = [1] * len(view.shape)
        along[axis] = length
        indices = indices + (stride * np.arange(length)).reshape(along)
    return storage[indices]


def _load(path: Path, file: BinaryIO, admitted: Mapping[tuple[str, str], Any]) -> Any:
    try:
        return _Unpickler(file, admitted).load()
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{path} is not as expected: {error}.") from error
