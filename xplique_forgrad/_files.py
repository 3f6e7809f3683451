"""
Files that are whole or not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def check_file_name(path: Path) -> None:
    """Raise a ValueError unless the path is a file, or may become one."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ValueError(f"{path} is no file name in a folder that there is; give one.")


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new one, never a part."""
    check_file_name(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def what_differs(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What a file says otherwise than is wanted now, in words; empty if it is all the same."""
    return "; ".join(
        f"{name}: {_short(there)} there, {_short(now)} now"
        for name, there, now in _differing(found, wanted)
    )


def _differing(
    found: Mapping[str, Any], wanted: Mapping[str, Any], place: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Innermost values that differ, with the names that lead to them."""
    for key in dict.fromkeys((*wanted, *found)):
        there, now = found.get(key), wanted.get(key)
        if isinstance(there, Mapping) and isinstance(now, Mapping):
            yield from _differing(there, now, f"{place}{key}.")
        elif there != now:
            yield f"{place}{key}", there, now


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
