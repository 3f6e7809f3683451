"""
Explanations of a search: the same each time that a batch is explained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from .._replicas import Replicas
from .._samples import Batch
from ._candidates import Maps
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
    replicas
        Replicas that share the images, unless the explainer draws noise: one device draws it in
        one order.
    """

    def __init__(
        self,
        explain: Callable[[Batch], Any],
        seed: int,
        in_graphs: bool = False,
        replicas: Replicas | None = None,
    ):
        self.explain, self.seed, self.in_graphs = explain, seed, in_graphs
        self.replicas = replicas or Replicas()
        # None: found out by explaining the first images twice
        self.is_random: bool | None = None

    def __call__(self, batch: Batch, size: int = EXPLAINED) -> np.ndarray:
        """Explanations of a batch as an array, of shape (B, ...), see `maps`."""
        return np.asarray(self.maps(batch, size))

    def maps(self, batch: Batch, size: int = EXPLAINED) -> Maps:
        """
        Explanations of a batch, of shape (B, ...), `size` images at a time.

        On a GPU they stay where the explainer left them, as a tensor; else they are an array.

        Raises
        ------
        NotFiniteError
            If one holds NaN or infinite values.
        """
        nb_images = len(batch.positions)
        size = min(EXPLAINED, size)

        def explain(start: int) -> Any:
            # the last one is repeated to fill up
            part = np.minimum(np.arange(start, start + size), nb_images - 1)
            return self.explain(Batch(*(values[part] for values in batch)))

        if self.is_random is None:
            is_same = np.array_equal(np.asarray(explain(0)), np.asarray(explain(0)))
            self.is_random = self.replicas.agree(not is_same)
        starts = range(0, nb_images, size)
        if self.is_random:
            # only if need be: it clears the kernels of TensorFlow, half a second to load again
            seed = (self.seed * 1_000_003 + int(batch.positions[0])) % (2**31 - 1)
            seed = self.seed if self.in_graphs else seed
            with repeatable(seed, eagerly=not self.in_graphs):
                parts = [explain(start) for start in starts]
        else:
            parts = self.replicas.map(explain, starts)
        found, are_finite = _together(parts, nb_images)
        if not are_finite.all():
            raise NotFiniteError(
                f"The explanation of image {batch.positions[np.argmin(are_finite)]} holds NaN or "
                "infinite values. Look at the model's outputs and gradients for it, or drop it."
            )
        return found


def _together(parts: Sequence[Any], nb_images: int) -> tuple[Maps, Any]:
    """Parts as one, and which of its maps are finite, where the parts are."""
    if all(map(is_on_gpu, parts)):
        tensor = tf.concat(parts, axis=0)[:nb_images]
        flat = tf.reshape(tensor, (nb_images, -1))
        return tensor, tf.reduce_all(tf.math.is_finite(flat), axis=1).numpy()
    found = np.concatenate([np.asarray(part) for part in parts])[:nb_images]
    flat = found.astype(np.float64).reshape(nb_images, -1)
    return found, np.isfinite(flat).all(axis=-1)


def is_on_gpu(values: Any) -> bool:
    """Whether these are a tensor on a GPU."""
    return bool(tf.is_tensor(values)) and "GPU" in values.device
