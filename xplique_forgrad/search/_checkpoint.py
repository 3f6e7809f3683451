"""
The checkpoint of a search: a file that grows by each block of scores.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from .._files import replace_file, what_differs
from .._replicas import Replicas
from ._board import Block

_MAGIC = b"xplique-forgrad search checkpoint 3\n"
# length and checksum of what follows
_FRAME = struct.Struct("<II")
# candidates, images, columns, measures, first and last step, evaluations, whether of a control
_BLOCK = struct.Struct("<8q")
# seconds between writes
_PERIOD = 2.0

Key = tuple[bytes, bytes, tuple[int, int], bool]


class Journal(Protocol):
    """Blocks of scores that are known already, and a place for new ones."""

    @property
    def nb_images(self) -> int:
        """Number of images that an earlier run scored something of."""
        ...

    def take(
        self, candidates: np.ndarray, images: np.ndarray, steps: slice, is_control: bool
    ) -> Block | None:
        """A block that an earlier run scored; None if it did not."""
        ...

    def put(self, block: Block) -> None:
        """Keep a block that was scored now."""
        ...

    def close(self) -> None:
        """The search is over."""
        ...


class NoJournal:
    """Keeps nothing."""

    nb_images = 0

    def take(
        self, candidates: np.ndarray, images: np.ndarray, steps: slice, is_control: bool
    ) -> Block | None:
        return None

    def put(self, block: Block) -> None:
        pass

    def close(self) -> None:
        pass


class Checkpoint:
    """
    A journal in a file.

    Each block is appended once, with its length and checksum: what a killed search had not written
    to the end is left out when the file is read again. Blocks are written every two seconds, and
    when the search ends or is interrupted.

    Parameters
    ----------
    path
        File to go on from and to write.
    identity
        What the file must agree with, in plain values.
    replicas
        Of several processes all read the file, and one writes it.

    Raises
    ------
    ValueError
        If there is no such folder, or the file is no checkpoint, or that of another search, or
        processes do not see the same file.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], replicas: Replicas | None = None):
        self.path = path
        folder = path.resolve().parent
        if not folder.is_dir():
            raise ValueError(f"`checkpoint` is {path}; there is no folder {folder}.")
        self._stored: dict[Key, Block] = {}
        header = json.dumps(identity).encode()
        is_new, replicas = not path.exists(), replicas or Replicas()
        end = 0 if is_new else self._read(json.loads(header))
        # none writes before all have read
        replicas.check_same(f"what they see of {path}, which must be on a disk of all", str(end))
        self._file = None
        if replicas.is_chief:
            if is_new:
                replace_file(path, _MAGIC + _framed(header))
            self._file = open(path, "ab")  # noqa: SIM115
            if not is_new:
                # the last write of a killed search
                self._file.truncate(end)
        self._written = time.monotonic()

    @property
    def nb_images(self) -> int:
        """Number of images that an earlier run scored something of."""
        images = [np.frombuffer(key[1], np.int64) for key in self._stored]
        return len(np.unique(np.concatenate(images))) if images else 0

    def take(
        self, candidates: np.ndarray, images: np.ndarray, steps: slice, is_control: bool
    ) -> Block | None:
        """A block that an earlier run scored; None if it did not."""
        return self._stored.get(_key(candidates, images, (steps.start, steps.stop), is_control))

    def put(self, block: Block) -> None:
        """Append a block; it is on the disk two seconds later at the latest, or when closed."""
        if self._file is None:
            return
        self._file.write(_framed(_packed(block)))
        if time.monotonic() - self._written > _PERIOD:
            self.flush()

    def flush(self) -> None:
        """Write what there is to the disk."""
        if self._file is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._written = time.monotonic()

    def close(self) -> None:
        """Write what there is, and let the file go."""
        self.flush()
        if self._file is not None:
            self._file.close()

    def _read(self, wanted: Mapping[str, Any]) -> int:
        """Read the blocks; gives where the last whole one ends."""
        content = self.path.read_bytes() if self.path.is_file() else b""
        header, position = None, len(_MAGIC)
        if content.startswith(_MAGIC):
            header, position = _unframed(content, position)
        if header is None:
            self._refuse()
        _check_identity(self.path, json.loads(header), wanted)
        while position < len(content):
            payload, following = _unframed(content, position)
            if payload is None:
                if following < len(content):
                    self._refuse()
                break
            block = _unpacked(payload)
            key = _key(block.candidates, block.images, block.steps, block.is_control)
            self._stored[key] = block
            position = following
        return position

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"{self.path} is no checkpoint of a search, or a torn one. Give another path, or "
            "delete the file to start anew."
        )


def _key(
    candidates: np.ndarray, images: np.ndarray, steps: tuple[int, int], is_control: bool
) -> Key:
    named = candidates.astype(np.int64).tobytes(), images.astype(np.int64).tobytes()
    return *named, steps, is_control


def _framed(payload: bytes) -> bytes:
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _unframed(content: bytes, position: int) -> tuple[bytes | None, int]:
    """The payload at a position, None if it is not whole, and where the next begins."""
    start = position + _FRAME.size
    if start > len(content):
        return None, len(content)
    length, checksum = _FRAME.unpack_from(content, position)
    payload = content[start : start + length]
    is_whole = len(payload) == length and zlib.crc32(payload) == checksum
    return payload if is_whole else None, start + length


def _packed(block: Block) -> bytes:
    nb_measures, nb_candidates, nb_columns = block.values.shape
    sizes = (nb_candidates, len(block.images), nb_columns, nb_measures)
    return b"".join(
        [
            _BLOCK.pack(*sizes, *block.steps, block.nb_evaluations, block.is_control),
            block.candidates.astype(np.int32).tobytes(),
            block.images.astype(np.int64).tobytes(),
            block.values.astype(np.float64).tobytes(),
        ]
    )


def _unpacked(payload: bytes) -> Block:
    head = _BLOCK.unpack_from(payload)
    nb_candidates, nb_images, nb_columns, nb_measures, first, last, *counted = head
    place = _BLOCK.size
    candidates = np.frombuffer(payload, np.int32, nb_candidates, place).astype(np.int64)
    place += 4 * nb_candidates
    images = np.frombuffer(payload, np.int64, nb_images, place)
    place += 8 * nb_images
    values = np.frombuffer(payload, np.float64, -1, place)
    values = values.reshape(nb_measures, nb_candidates, nb_columns)
    nb_evaluations, is_control = counted
    return Block(candidates, images, (first, last), values, nb_evaluations, bool(is_control))


def _check_identity(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    differing = what_differs(found, wanted)
    if differing:
        raise ValueError(
            f"{path} is the checkpoint of another search. What differs: {differing}. Go on with "
            "what is there, or give another path."
        )
