"""
What a benchmark has finished: a file that grows by one line for each part.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._files import replace_file, what_differs
from .._replicas import Replicas

_NAME = "journal.jsonl"
_FORMAT = "xplique-forgrad benchmark 1"

Key = Sequence[Any]


class Journal:
    """
    Parts by their keys, in memory and, where a folder is given, on the disk as soon as they come.

    A part is of plain values, or columns: arrays by their names, which are lists in the file. A
    line that a killed run did not write to its end is left out.

    Parameters
    ----------
    folder
        Folder to go on in and to write to; None for none.
    identity
        What the parts in it must agree with, in plain values.
    replicas
        Of several processes all read the file, and one writes it.

    Raises
    ------
    ValueError
        If the folder holds the parts of another benchmark, or a file that is none of ours.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any], replicas: Replicas):
        self._parts: dict[str, Any] = {}
        self._file = None
        if folder is None:
            return
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"`folder` is {folder}, which is a file; give a folder.")
        path = folder / _NAME
        header = {"format": _FORMAT, **json.loads(json.dumps(identity))}
        is_new = not path.exists()
        end = 0 if is_new else self._read(path, header)
        # none writes before all have read
        replicas.check_same(f"what they see of {path}, which must be on a disk of all", str(end))
        if not replicas.is_chief:
            return
        if is_new:
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, _line(header))
        self._file = open(path, "ab")  # noqa: SIM115
        if not is_new:
            # a line that a killed run did not end
            self._file.truncate(end)

    def get(self, key: Key) -> Any:
        """A part; None if it is not there."""
        return self._parts.get(_text(key))

    def put(self, key: Key, part: Any) -> None:
        """Keep a part; it is on the disk when this returns."""
        self._parts[_text(key)] = part
        if self._file is not None:
            self._file.write(_line([_text(key), part]))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()

    def _read(self, path: Path, header: Mapping[str, Any]) -> int:
        """Read the parts; gives where the last whole line ends."""
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            # line by line: as columns they are far smaller than as lists
            lines = io.BytesIO(whole)
            found = json.loads(next(lines, b""))
            known = found["format"] == _FORMAT
            self._parts = {key: _as_columns(part) for key, part in map(json.loads, lines)}
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise ValueError(
                f"{path} is no journal of a benchmark, or a damaged one. Give another folder, or "
                "delete the file to start anew."
            )
        differing = what_differs(found, header)
        if differing:
            raise ValueError(
                f"{path.parent} holds another benchmark. What differs: {differing}. Give another "
                "folder, or delete this one to start anew."
            )
        return len(whole)


def _text(key: Key) -> str:
    return json.dumps(key)


def _line(value: Any) -> bytes:
    return json.dumps(value, default=np.ndarray.tolist).encode() + b"\n"


def _as_columns(part: Any) -> Any:
    """A part as it was before it was written: one of lists alone are columns."""
    if not isinstance(part, dict) or not all(isinstance(one, list) for one in part.values()):
        return part
    return {name: _as_array(values) for name, values in part.items()}


def _as_array(values: list) -> np.ndarray:
    if values and isinstance(values[0], str):
        # the same few texts in every part
        return np.array([sys.intern(value) for value in values], object)
    return np.array(values)
