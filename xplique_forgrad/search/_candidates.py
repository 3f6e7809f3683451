"""
What a search compares: cutoffs, windows and rectifications, and no filter at all.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from ..filtering import forgrad_sweep, full_band_sigma

# maps as an array, or as a tensor on a GPU
Maps: TypeAlias = np.ndarray | tf.Tensor


class Candidate(NamedTuple):
    """
    One way to treat a map: as it is, rectified, or filtered.

    Attributes
    ----------
    sigma
        Cutoff in cycles along the longest filtered axis; None for no filter.
    window
        "disk", "box", "gaussian" or "butterworth"; None for no filter.
    rectify
        "magnitude" or "positive", see `forgrad`; None takes maps as they are.
    """

    sigma: float | None = None
    window: str | None = None
    rectify: str | None = None

    @property
    def is_filter(self) -> bool:
        """Whether it filters."""
        return self.sigma is not None

    def __str__(self) -> str:
        if self.sigma is not None:
            return f"sigma={self.sigma:g}, {self.window}, {self.rectify or 'signed'}"
        return {"magnitude": "rectified", "positive": "positive part"}.get(
            self.rectify or "", "raw"
        )


def default_sigmas(shape: Sequence[int], window: str = "disk") -> list[int]:
    """
    Cutoffs worth trying: every integer up to 8, then steps of 20 %, below the full band.

    Optima of 2 to 15 are usual, so low cutoffs are denser. Each disk keeps other frequencies than
    the one before. The full band itself is no filter, which a search tries anyway.

    Parameters
    ----------
    shape
        Sizes of the filtered axes, (H, W) for images.
    window
        "disk", "box", "gaussian" or "butterworth".

    Returns
    -------
    sigmas :
        Increasing cutoffs in cycles along the longest axis.

    Examples
    --------
    >>> default_sigmas((32, 32))
    [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 17, 20]
    """
    full_band = full_band_sigma(shape, "box" if window == "box" else "disk")
    sigmas = [1]
    while (following := max(sigmas[-1] + 1, round(1.2 * sigmas[-1]))) < full_band:
        sigmas.append(following)
    return sigmas


def make_candidates(
    shape: Sequence[int],
    sigmas: Sequence[float] | None,
    windows: Sequence[str],
    rectifications: Sequence[str | None],
) -> list[Candidate]:
    """The raw map, the map rectified in each way or at least in one, and every filter."""
    candidates = [Candidate()]
    hows = [how for how in dict.fromkeys(rectifications) if how] or ["magnitude"]
    candidates += [Candidate(rectify=how) for how in hows]
    for window, how in itertools.product(dict.fromkeys(windows), dict.fromkeys(rectifications)):
        values = default_sigmas(shape, window) if sigmas is None else sorted(set(sigmas))
        candidates += [Candidate(float(sigma), window, how) for sigma in values]
    return candidates


def filtered_maps(
    explanations: Maps,
    candidates: Sequence[Candidate],
    axes: Sequence[int],
    border: str = "periodic",
) -> Maps:
    """The explanations (B, ...) treated in each way, of shape (K, B, ...): a tensor of a tensor."""
    if tf.is_tensor(explanations):
        return _filtered_on_device(explanations, candidates, axes, border)
    explanations = np.asarray(explanations)
    if not np.issubdtype(explanations.dtype, np.floating):
        explanations = explanations.astype(np.float32)
    maps = np.empty((len(candidates), *explanations.shape), explanations.dtype)
    for index, candidate in enumerate(candidates):
        if candidate.rectify == "magnitude":
            np.abs(explanations, out=maps[index])
        elif candidate.rectify == "positive":
            np.maximum(explanations, 0, out=maps[index])
        else:
            maps[index] = explanations
    for (window, rectify), indices in _families(candidates).items():
        sigmas = [candidates[index].sigma for index in indices]
        maps[indices] = forgrad_sweep(
            explanations, sigmas, window=window, rectify=rectify, axes=axes, border=border
        )
    return maps


def _filtered_on_device(
    explanations: tf.Tensor, candidates: Sequence[Candidate], axes: Sequence[int], border: str
) -> tf.Tensor:
    treat = {"magnitude": tf.abs, "positive": tf.nn.relu, None: tf.identity}
    found = [None if one.is_filter else treat[one.rectify](explanations) for one in candidates]
    for (window, rectify), indices in _families(candidates).items():
        sigmas = [candidates[index].sigma for index in indices]
        sweep = forgrad_sweep(
            explanations, sigmas, window=window, rectify=rectify, axes=axes, border=border
        )
        for index, maps in zip(indices, tf.unstack(sweep)):
            found[index] = maps
    return tf.stack(found)


def _families(candidates: Sequence[Candidate]) -> dict[tuple, list[int]]:
    """Filters that differ by their cutoffs alone, which share a forward transform."""
    families: dict[tuple, list[int]] = {}
    for index, candidate in enumerate(candidates):
        if candidate.is_filter:
            families.setdefault(candidate[1:], []).append(index)
    return families


def neighbours(best: float, scored: Sequence[float], highest: float) -> list[float]:
    """Integer cutoffs to try around the best: the middles of the gaps beside it that are left."""
    below = max((sigma for sigma in scored if sigma < best), default=0.0)
    above = min((sigma for sigma in scored if sigma > best), default=highest)
    # the middle of each gap, and at last the integer beside the best
    low = min(np.ceil((below + best) / 2), np.ceil(best) - 1)
    high = max(np.floor((best + above) / 2), np.floor(best) + 1)
    return [float(value) for value in (low, high) if below < value < above]
