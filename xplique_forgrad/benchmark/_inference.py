"""
What scores of the same images allow to say of methods: paired tests, ranks, rank correlations.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from scipy import stats

from .._statistics import standard_error

LEVEL = 0.95
NB_RESAMPLES = 1000
# resampled means of equal scores differ by rounding alone
_DECIMALS = 12
# resamples are drawn and summed in so many parts, for less memory
_NB_PARTS = 20


class PairedTest(NamedTuple):
    """A mean difference, its standard error, the number of pairs and the two-sided p value."""

    gain: float
    standard_error: float
    nb_images: int
    p_value: float


def paired_test(scores: np.ndarray, reference: np.ndarray) -> PairedTest:
    """
    Two-sided paired t-test of scores against others of the same images, each of shape (N,).

    Images without one of the two are left out. Scores that are equal on all images have p = 1;
    fewer than 2 images have none.
    """
    differences = np.asarray(scores, np.float64) - np.asarray(reference, np.float64)
    differences = differences[~np.isnan(differences)]
    nb_images = len(differences)
    mean = float(np.mean(differences)) if nb_images else np.nan
    if nb_images < 2:
        return PairedTest(mean, np.nan, nb_images, np.nan)
    error = float(standard_error(differences))
    if not mean:
        p_value = 1.0
    else:
        ratio = abs(mean) / error if error else np.inf
        p_value = 2 * float(stats.t.sf(ratio, nb_images - 1))
    return PairedTest(mean, error, nb_images, p_value)


def holm(p_values: np.ndarray) -> np.ndarray:
    """
    P values of a family of tests, corrected by Holm's step-down method.

    The chance of any false rejection is at most the level, however the tests depend on each other.

    Ref. Holm, A simple sequentially rejective multiple test procedure (1979).

    Parameters
    ----------
    p_values
        Of shape (M,); NaN is no test and does not count.

    Returns
    -------
    corrected :
        Of shape (M,), at most 1.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, np.float64)
    corrected = np.full(p_values.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested])]
    steps = np.arange(len(order), 0, -1) * p_values[order]
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def bootstrap_means(scores: np.ndarray, seed: int = 0) -> np.ndarray:
    """
    Means over images drawn with replacement, the same images for all that is scored.

    Parameters
    ----------
    scores
        Of shape (N, ...), one row an image.
    seed
        Seed of the drawing.

    Returns
    -------
    means :
        Of shape (1000, ...).
    """
    flat = np.reshape(scores, (len(scores), -1))
    sums = [counts @ flat for counts in _counts(len(scores), seed)]
    means = np.concatenate(sums).reshape(NB_RESAMPLES, *np.shape(scores)[1:]) / len(scores)
    return np.round(means, _DECIMALS)


@functools.lru_cache(maxsize=4)
def _counts(nb_images: int, seed: int) -> list[np.ndarray]:
    """How often each image is in each resample, (1000, N) in parts; tables ask for it often."""
    rng = np.random.default_rng(seed)
    shares = np.full(nb_images, 1 / nb_images)
    # more than 255 images have counts of about 1, and none beyond 255
    return [
        rng.multinomial(nb_images, shares, size=NB_RESAMPLES // _NB_PARTS).astype(np.uint8)
        for _ in range(_NB_PARTS)
    ]


class Ranks(NamedTuple):
    """Rank of each method by its mean, 1 is the best, and the bounds of the rank at 95 %."""

    rank: np.ndarray
    low: np.ndarray
    high: np.ndarray


def ranks_of(scores: np.ndarray, seed: int = 0) -> Ranks:
    """
    Ranks of means, with their bootstrap intervals over images.

    Percentiles of the ranks in 1000 resamples of the images. Equal means share the better rank.

    Parameters
    ----------
    scores
        Of shape (N, K), higher is better, without NaN.
    seed
        Seed of the bootstrap.

    Returns
    -------
    ranks :
        Each of shape (K,); the bounds are NaN for fewer than 2 images.
    """
    means = np.round(np.mean(scores, axis=0), _DECIMALS)
    rank = stats.rankdata(-means, method="min")
    if len(scores) < 2:
        return Ranks(rank, *np.full((2, len(rank)), np.nan))
    resampled = stats.rankdata(-bootstrap_means(scores, seed), method="min", axis=1)
    bounds = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    return Ranks(rank, *np.quantile(resampled, bounds, axis=0, method="inverted_cdf"))


def kendall_tau(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """
    Kendall's tau-b of the last axes, for all others at once.

    As `scipy.stats.kendalltau`, which takes one pair of rankings at a time.

    Parameters
    ----------
    first, second
        Of shape (..., K). Infinite values tie.

    Returns
    -------
    tau :
        Of shape (...); NaN where all values of a ranking are equal, or K < 2.
    """
    one, other = (_orders(np.asarray(values, np.float64)) for values in (first, second))
    agreement = np.sum(one * other, axis=(-2, -1))
    pairs = np.sqrt(np.sum(np.abs(one), axis=(-2, -1)) * np.sum(np.abs(other), axis=(-2, -1)))
    return np.divide(agreement, pairs, out=np.full(np.shape(pairs), np.nan), where=pairs > 0)


def _orders(values: np.ndarray) -> np.ndarray:
    """Of each pair, 1, -1, or 0 for a tie."""
    left, right = values[..., np.newaxis], values[..., np.newaxis, :]
    return (left > right).astype(float) - (left < right)


class Tau(NamedTuple):
    """Kendall's tau and its bounds at 95 %."""

    tau: float
    low: float
    high: float


def tau_of_means(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Tau:
    """
    Kendall's tau of two rankings by mean, with its bootstrap interval over images.

    The images are resampled for both rankings alike. Resampling shuffles methods that are near each
    other, so that the interval leans to lower values where rankings agree.

    Parameters
    ----------
    first, second
        Scores of shape (N, K) of the same images and methods, without NaN.
    seed
        Seed of the bootstrap.

    Returns
    -------
    tau :
        NaN bounds for fewer than 2 images.
    """
    scores = np.stack([first, second], axis=1)
    tau = float(kendall_tau(*np.round(scores.mean(axis=0), _DECIMALS)))
    if len(scores) < 2 or np.isnan(tau):
        return Tau(tau, np.nan, np.nan)
    resampled = kendall_tau(*np.moveaxis(bootstrap_means(scores, seed), 1, 0))
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Tau(tau, float(low), float(high))
