"""
What Insertion and Deletion rank and perturb: single features, or square cells of pixels.
"""

from __future__ import annotations

import math

import numpy as np

from .._checks import batch_shape
from ._steps import levels_dtype


class Cells:
    """
    The cells of an input, in rows from the top left.

    Parameters
    ----------
    shape
        Shape of one input, (H, W, C) for images, whose channels are perturbed together.
    patch_size
        Side of a cell in pixels, 1 for single features. The cells at the bottom and at the right
        are smaller where it does not divide the size.

    Raises
    ------
    ValueError
        If there are several pixels to a cell, and the input is no image, or smaller than a cell.
    """

    def __init__(self, shape: tuple[int, ...], patch_size: int):
        self.patch_size = patch_size
        self.sizes = shape[:-1] if len(shape) > 2 else shape
        self.nb_features = self.nb_cells = math.prod(self.sizes)
        if patch_size == 1:
            return
        if len(shape) != 3:
            raise ValueError(
                f"`patch_size` is {patch_size}, and the inputs have shape "
                f"{batch_shape(shape)}; patches "
                "are for images (N, H, W, C). Leave `patch_size` at 1."
            )
        if patch_size > max(self.sizes):
            raise ValueError(
                f"`patch_size` is {patch_size}, and the images have "
                f"{self.sizes[0]} x {self.sizes[1]} pixels; give at most {max(self.sizes)}, or 1 "
                "for single pixels."
            )
        rows, columns = (np.arange(size) // patch_size for size in self.sizes)
        self._of_pixels = np.add.outer(rows * (columns[-1] + 1), columns).ravel()
        self._areas = np.bincount(self._of_pixels)
        self.nb_cells = len(self._areas)

    @property
    def noun(self) -> str:
        """What is perturbed, in words."""
        side = self.patch_size
        return "features" if side == 1 else f"cells of {side} x {side} pixels"

    def means(self, flat: np.ndarray) -> np.ndarray:
        """Mean attribution of each cell, of shape (..., cells), for maps (..., features)."""
        if self.patch_size == 1:
            return flat
        sums = flat.reshape(*flat.shape[:-1], *self.sizes)
        for axis in (-2, -1):
            starts = np.arange(0, self.sizes[axis], self.patch_size)
            sums = np.add.reduceat(sums, starts, axis=axis, dtype=np.float64)
        means = sums.reshape(*flat.shape[:-1], self.nb_cells) / self._areas
        # of float32 maps rounded, so that the order of summing tells no equal cells apart
        return means.astype(levels_dtype(flat.dtype), copy=False)

    def on_pixels(self, values: np.ndarray) -> np.ndarray:
        """Values of the cells (..., cells) at each feature, of shape (..., features)."""
        return values if self.patch_size == 1 else np.take(values, self._of_pixels, axis=-1)
