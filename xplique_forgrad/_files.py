"""
Files that are whole or not there.
"""

from __future__ import annotations

import os
from pathlib import Path


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
