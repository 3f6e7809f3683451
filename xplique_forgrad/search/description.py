"""
Settings as plain values, for files and for the comparison of searches.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def describe(value: Any) -> Any:
    """A setting as a plain value: numbers and strings as they are, others by name and parts."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return f"array of shape {value.shape}, checksum {zlib.crc32(value.tobytes())}"
    if hasattr(value, "func") and hasattr(value, "args"):
        return ["partial", describe(value.func), describe(value.args), describe(value.keywords)]
    if hasattr(value, "__code__"):
        return value.__qualname__
    parts = {
        key: item
        for key, item in getattr(value, "__dict__", {}).items()
        if isinstance(item, (bool, int, float, str, type(None))) and not key.startswith("_")
    }
    name = getattr(value, "__name__", type(value).__name__)
    return {name: parts} if parts else name
