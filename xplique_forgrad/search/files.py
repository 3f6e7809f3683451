"""
Results and checkpoints of a search on disk, each replaced in one step.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_CHECKPOINT = "xplique-forgrad search checkpoint 1"
_RECORD = "xplique-forgrad search 1"
# arrays of a result, and their types
_ARRAYS = {"scores": float, "halves": float, "scored": bool, "held_out": int}


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new one, never a part."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ValueError(f"{path} is no file name in a folder that there is; give one.")
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def save_checkpoint(path: Path, identity: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write what identifies a search, and its arrays."""
    header = json.dumps({"format": _CHECKPOINT, "identity": identity})
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(header), **arrays)
    replace_file(path, buffer.getvalue())


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """
    Arrays of a checkpoint of this very search; None if there is no file.

    Raises
    ------
    ValueError
        If the file is no checkpoint or a torn one, or is that of another search.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(str(arrays.pop("header")))
        if header["format"] != _CHECKPOINT:
            raise KeyError("format")
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"{path} is no checkpoint of a search, or a torn one ({error}). Give another path, or "
            "delete the file to start anew."
        ) from error
    found = header["identity"]
    # as JSON has it: tuples are lists there
    wanted = json.loads(json.dumps(identity))
    differing = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    if differing:
        details = "; ".join(
            f"{key}: {_short(found.get(key))} there, {_short(wanted.get(key))} now"
            for key in differing
        )
        raise ValueError(
            f"{path} is the checkpoint of another search. What differs: {details}. Give another "
            "path, or delete the file to start anew."
        )
    return arrays


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


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
