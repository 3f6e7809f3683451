"""
How the tensors inside a model hold pictures of its image: as pictures, or as tokens on a grid.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import tensorflow as tf

# class token, distillation token, registers
_MAX_PREFIX = 5

# height and width, in pixels or tokens
Grid = tuple[int, int]


class Layout(NamedTuple):
    """How a tensor holds a picture: on a grid, behind `nb_prefix` tokens of other things."""

    grid: Grid
    nb_prefix: int = 0


class Layouts:
    """
    How the tensors of a model hold pictures of its image.

    The pictures that were met tell how the tokens that come later are laid out: on the grid of one
    of them, or on half of the last one's.
    """

    def __init__(self, image: Grid):
        self._image = image
        self._pictures: list[Grid] = []

    def add_picture(self, grid: Grid) -> None:
        """A layer gave a picture of this size."""
        self._pictures.append(grid)

    def find(self, tensor: Any) -> Layout | None:
        """The layout of a picture or of a sequence of tokens; None of all else."""
        shape = getattr(tensor, "shape", None)
        if shape is None or len(shape) not in (3, 4) or shape[0] is not None or None in shape[1:]:
            return None
        if not tf.as_dtype(tensor.dtype).is_floating:
            return None
        return self._of_picture(*shape[1:3]) if len(shape) == 4 else self._of_tokens(*shape[1:])

    def _of_picture(self, height: int, width: int) -> Layout | None:
        # tokens beside heads, or heads beside tokens, have another shape than the image
        shear = (height / width) / (self._image[0] / self._image[1])
        is_picture = min(height, width) > 1 and 0.5 <= shear <= 2
        return Layout((height, width)) if is_picture else None

    def _of_tokens(self, nb_tokens: int, nb_channels: int) -> Layout | None:
        if nb_channels == 1:
            return None
        found = self._as_a_picture_before(nb_tokens) or self._as_merged_patches(nb_tokens)
        # a square only where no picture of the patches was met
        if found is None and all(grid == self._image for grid in self._pictures):
            found = _as_a_square(nb_tokens)
        return found

    def _as_a_picture_before(self, nb_tokens: int) -> Layout | None:
        for nb_prefix in range(_MAX_PREFIX + 1):
            for grid in self._pictures[::-1]:
                if grid[0] * grid[1] == nb_tokens - nb_prefix:
                    return Layout(grid, nb_prefix)
        return None

    def _as_merged_patches(self, nb_tokens: int) -> Layout | None:
        """Two by two tokens of the last picture were put together, as Swin does."""
        for height, width in self._pictures[-1:]:
            merged = math.ceil(height / 2), math.ceil(width / 2)
            if min(merged) > 1 and merged[0] * merged[1] == nb_tokens:
                self._pictures.append(merged)
                return Layout(merged)
        return None


def _as_a_square(nb_tokens: int) -> Layout | None:
    for nb_prefix in range(_MAX_PREFIX + 1):
        side = math.isqrt(max(nb_tokens - nb_prefix, 0))
        if side > 1 and side**2 == nb_tokens - nb_prefix:
            return Layout((side, side), nb_prefix)
    return None
