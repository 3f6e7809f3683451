"""
Explanations of a search: the same each time that a batch is explained.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._samples import Batch
from ._seeds import repeatable

# explainers are traced anew for each number of images, so they always get this one
EXPLAINED = 8


class NothingToChooseError(ValueError):
    """No candidate has scores that are numbers."""


class NotFiniteError(NothingToChooseError):
    """An explanation holds values that are no numbers."""


class Explaining:
    """
    An explainer that gives a batch the same explanations each time, in any process.

    Parameters
    ----------
    explain
        Function of a batch that gives explanations of shape (B, ...).
    seed
        Seed of explainers that draw noise.
    in_graphs
        Whether the explainer draws the same noise for each batch, which is faster, see
        `repeatable`; else that of a batch depends on its first image.
    """

    def __init__(
        self,
        explain: Callable[[Batch], np.ndarray],
        seed: int,
        in_graphs: bool = False,
    ):
        self.explain, self.seed, self.in_graphs = explain, seed, in_graphs
        # None: found out by explaining the first images twice
        self.is_random: bool | None = None

    def __call__(self, batch: Batch, size: int = EXPLAINED) -> np.ndarray:
        """
        Explanations of a batch, of shape (B, ...), `size` images at a time.

        Raises
        ------
        NotFiniteError
            If one holds NaN or infinite values.
        """
        nb_images = len(batch.positions)
        size = min(EXPLAINED, size)

        def explain(start: int) -> np.ndarray:
            # the last one is repeated to fill up
            part = np.minimum(np.arange(start, start + size), nb_images - 1)
            return np.asarray(self.explain(Batch(*(values[part] for values in batch))))

        if self.is_random is None:
            self.is_random = not np.array_equal(explain(0), explain(0))
        starts = range(0, nb_images, size)
        if self.is_random:
            # only if need be: it clears the kernels of TensorFlow, half a second to load again
            seed = (self.seed * 1_000_003 + int(batch.positions[0])) % (2**31 - 1)
            seed = self.seed if self.in_graphs else seed
            with repeatable(seed, eagerly=not self.in_graphs):
                found = np.concatenate([explain(start) for start in starts])[:nb_images]
        else:
            found = np.concatenate([explain(start) for start in starts])[:nb_images]
        bad = ~np.isfinite(found.astype(np.float64)).reshape(nb_images, -1).all(axis=1)
        if bad.any():
            raise NotFiniteError(
                f"The explanation of image {batch.positions[np.argmax(bad)]} holds NaN or infinite "
                "values. Look at the model's outputs and gradients for it, or drop it."
            )
        return found
