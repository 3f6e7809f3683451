"""
Curves of scores over perturbation steps, and which features each step perturbs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def areas_under(
    inner: np.ndarray, outer: np.ndarray, weights: np.ndarray, nb_inner: int, is_whole: bool
) -> np.ndarray:
    """
    Areas under curves by the trapezoidal rule, and their estimates from half of the steps.

    Parameters
    ----------
    inner
        Heights of shape (..., B, s) at all S steps between the ends, or at some: then the area is
        an unbiased estimate if each step is equally likely to be among them.
    outer
        What the ends add, of shape (B,).
    weights
        Weights of these steps in the sum over all, of shape (s,) or (B, s).
    nb_inner
        Number S of all steps.
    is_whole
        Whether the end is a step of its own, beyond the S.

    Returns
    -------
    areas :
        Mean heights, and those by every other one of these steps and by the rest, of shape
        (3, ..., B); the last two are NaN for fewer than 2 steps.
    """
    inner, outer = inner.astype(np.float64), outer.astype(np.float64)
    nb_seen = inner.shape[-1]
    total = np.sum(weights * inner, axis=-1) * (nb_inner / max(1, nb_seen))
    # the weights of all steps add up to this
    nb_counted = nb_inner if is_whole else nb_inner - 0.5
    halves = [np.full(total.shape, np.nan)] * 2
    if nb_seen > 1:
        halves = [nb_counted * inner[..., first::2].mean(axis=-1) for first in (0, 1)]
    return (outer + np.stack([total, *halves])) / (nb_inner + is_whole)


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
    wide = levels_dtype(flat.dtype)
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


def levels_dtype(dtype: np.dtype) -> type[np.floating]:
    """The dtype that holds attributions of that dtype on the device: float32 if none is lost."""
    return np.float32 if np.can_cast(dtype, np.float32) else np.float64


def fullest_batches(sizes: Sequence[int], most: int) -> list[list[slice]]:
    """
    Slices along three axes whose products are the fewest batches of at most `most` elements.

    Parameters
    ----------
    sizes
        Numbers of samples, maps and steps.
    most
        Elements of a batch, at least 1.
    """
    return [slices(size, part) for size, part in zip(sizes, _fullest(tuple(sizes), max(1, most)))]


@lru_cache(maxsize=256)
def _fullest(sizes: tuple[int, int, int], most: int) -> tuple[int, int, int]:
    nb_samples, nb_maps, nb_steps = (max(1, size) for size in sizes)

    def number_of_batches(few: tuple[int, int, int]) -> int:
        return math.prod(-(-size // part) for size, part in zip(sizes, few))

    steps = {min(nb_steps, most // share) for share in range(1, most + 1)}
    found = [
        (min(nb_samples, most // (few_maps * few_steps)), few_maps, few_steps)
        for few_steps in steps
        for few_maps in range(1, min(nb_maps, most // few_steps) + 1)
    ]
    return min(found, key=number_of_batches)


def slices(size: int, most: int) -> list[slice]:
    """Slices of nearly equal sizes, at most `most`, that cover a range."""
    bounds = np.linspace(0, size, -(-size // max(1, most)) + 1).astype(int)
    return [slice(low, high) for low, high in itertools.pairwise(bounds)]
