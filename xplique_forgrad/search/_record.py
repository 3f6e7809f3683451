"""
Results of a search on disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._files import replace_file

_RECORD = "xplique-forgrad search 2"
# arrays of a result, and their types
_ARRAYS = {"scores": float, "halves": float, "scored": bool, "held_out": int}


def save_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result as JSON, NaN as null."""
    plain = {"format": _RECORD, **{key: _plain(value) for key, value in content.items()}}
    text = json.dumps(plain, allow_nan=False, separators=(",", ":"))
    replace_file(path, text.encode())


def load_record(path: Path) -> dict[str, Any]:
    """What `save_record` wrote, arrays as arrays; a ValueError if it is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != _RECORD:
            raise KeyError("format")
        for name, dtype in _ARRAYS.items():
            content[name] = np.array(content[name], dtype)
        if content.get("control") is not None:
            content["control"] = np.array(content["control"], float)
        content["others"] = {
            name: np.array(scores, float) for name, scores in content["others"].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is no result that SigmaSearch.save wrote ({error}).") from error
    return content


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind != "f":
            return value.tolist()
        values = value.astype(object)
        values[np.isnan(value)] = None
        return values.tolist()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
