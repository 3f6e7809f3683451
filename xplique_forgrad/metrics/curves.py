"""
Curves of scores over perturbation steps, and which features each step perturbs.
"""

from __future__ import annotations

import itertools

import numpy as np


def area_under(curves: np.ndarray, nb_perturbed: np.ndarray) -> np.ndarray:
    """Mean height of curves of shape (..., steps + 1), over the distinct steps as in Xplique."""
    _, distinct = np.unique(nb_perturbed, return_index=True)
    heights = curves[..., distinct].astype(np.float64)
    return np.mean(heights[..., :-1] + heights[..., 1:], axis=-1) * 0.5


def levels_and_thresholds(flat: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Levels of shape (..., n) and thresholds of shape (..., S): the `steps[s]` features of highest
    attribution are those with levels >= thresholds[..., s].

    The levels are the attributions, except in a map where a tie straddles a threshold, or one is
    too small a number: there they are ranks, with ties in the order of np.argsort, as in Xplique.
    """
    nb_features = flat.shape[-1]
    ordered = np.sort(flat, axis=-1)
    thresholds = ordered[..., nb_features - steps]
    tied = (ordered[..., nb_features - steps - 1] == thresholds).any(axis=-1)
    wide = np.float32 if np.can_cast(flat.dtype, np.float32) else np.float64
    levels, thresholds = flat.astype(wide, copy=False), thresholds.astype(wide, copy=False)
    # TensorFlow takes denormal numbers for zero
    tied |= (np.abs(thresholds) < np.finfo(wide).tiny).any(axis=-1)
    if not tied.any():
        return levels, thresholds
    levels = levels.copy()
    order = np.argsort(flat[tied], axis=-1)
    ranks = np.empty(order.shape, levels.dtype)
    np.put_along_axis(ranks, order, np.arange(nb_features, dtype=levels.dtype), axis=-1)
    levels[tied] = ranks
    thresholds[tied] = nb_features - steps
    return levels, thresholds


def slices(size: int, most: int) -> list[slice]:
    """Slices of nearly equal sizes, at most `most`, that cover a range."""
    bounds = np.linspace(0, size, -(-size // max(1, most)) + 1).astype(int)
    return [slice(low, high) for low, high in itertools.pairwise(bounds)]
