"""
What a benchmark has finished: a file that grows by one line for each part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._files import replace_file, what_differs

_NAME = "journal.jsonl"
_FORMAT = "xplique-forgrad benchmark 1"

Key = Sequence[Any]


class Journal:
    """
    Parts by their keys, in memory and, where a folder is given, on the disk as soon as they come.

    A line that a killed run did not write to its end is left out.

    Parameters
    ----------
    folder
        Folder to go on in and to write to; None for none.
    identity
        What the parts in it must agree with, in plain values.

    Raises
    ------
    ValueError
        If the folder holds the parts of another benchmark, or a file that is none of ours.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]):
        self._parts: dict[str, Any] = {}
        self._file = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / _NAME
        header = {"format": _FORMAT, **json.loads(json.dumps(identity))}
        if path.exists():
            self._read(path, header)
        else:
            replace_file(path, _line(header))
        self._file = open(path, "ab")  # noqa: SIM115

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

    def _read(self, path: Path, header: Mapping[str, Any]) -> None:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            found, *parts = [json.loads(line) for line in whole.splitlines()]
            known = found["format"] == _FORMAT
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
        self._parts = dict(parts)
        if len(whole) < len(content):
            with open(path, "r+b") as file:
                file.truncate(len(whole))


def _text(key: Key) -> str:
    return json.dumps(key)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
