"""
Settings as plain values, for files and for the comparison of searches.
"""

from __future__ import annotations

import functools
import inspect
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, str)


def describe(value: Any) -> Any:
    """A setting as a plain value: numbers and strings as they are, others by name and parts."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}, checksum {zlib.crc32(value.tobytes())}"
    if isinstance(value, functools.partial):
        return ["partial", describe(value.func), describe(value.args), describe(value.keywords)]
    if hasattr(value, "__code__"):
        return value.__qualname__
    return _described_object(value)


def describe_with_data(function: Any) -> Any:
    """A function by its name and by the numbers and arrays that it sees from where it stands."""
    try:
        seen = inspect.getclosurevars(function)
    except TypeError:
        return describe(function)
    data = {
        name: describe(value)
        for name, value in {**seen.globals, **seen.nonlocals}.items()
        if isinstance(value, (*_PLAIN, np.ndarray))
    }
    return {describe(function): data} if data else describe(function)


def _described_object(value: Any) -> Any:
    """An object by its name and its public attributes that are plain values or arrays."""
    attributes = getattr(value, "__dict__", {})
    parts = {
        key: describe(item)
        for key, item in attributes.items()
        if (item is None or isinstance(item, (*_PLAIN, np.ndarray))) and not key.startswith("_")
    }
    name = getattr(value, "__name__", type(value).__name__)
    return {name: parts} if parts else name
