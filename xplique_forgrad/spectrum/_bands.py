"""
What each band of frequencies holds, and what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import tensorflow as tf

from .._statistics import standard_error
from ..filtering import forgrad, frequency_radius, full_band_sigma
from ..filtering._checks import checked_sigma
from ..filtering._transforms import rectified
from ._power import batches, checked_maps, power_of, ratio, sums_by


class ImageMetric(Protocol):
    """What scores maps image by image, as `Faithfulness` does."""

    def evaluate_per_image(self, explanations: tf.Tensor) -> np.ndarray:
        """The score of each of the maps, of shape (N,)."""


def band_importance(
    explanations: npt.ArrayLike | tf.Tensor,
    metric: ImageMetric | None = None,
    *,
    edges: Sequence[float] | None = None,
    rectify: str | None = "magnitude",
) -> pd.DataFrame:
    """
    How much of the maps' energy sits in each band of frequencies, and what each band is worth.

    Dropping high frequencies is a good choice only where they add nothing. With a metric, each band
    is judged in two ways: *alone*, the score of the map that holds the frequencies of the band and
    no others, and *added*, the score of the map filtered at the band's upper end less that of the
    map filtered at its lower end. The first row is the mean of the map: a constant map, whose
    pixels the metric takes in its order for ties. *Added* sums up to the score of the full map,
    rectified.

    The two may differ: a high band whose amplitude follows the evidence scores alone, and adds
    nothing to the low bands that know it already. Scores of a metric of which lower is better, such
    as Deletion, are read the other way round.

    Parameters
    ----------
    explanations
        Maps of shape (N, H, W) or (N, H, W, C), an array or a Tensor.
    metric
        What scores maps image by image: `Faithfulness(model, inputs, targets, ...)` or any other
        object with a method `evaluate_per_image(explanations)`. None gives the energy alone.
    edges
        Upper ends of the bands in cycles along the longest side, increasing. None are octaves: 1,
        2, 4, ..., and the full band.
    rectify
        As in `forgrad`, whose bands these are, and with its default: "magnitude" before the map is
        split, and of each part that is scored; "positive", before alone; or None.

    Returns
    -------
    table :
        One row a band: "low" (not included) and "high" (included), in cycles; "energy", the mean
        over images of the band's share of the energy; with a metric "alone" and "added". Beside
        each, with the ending "_error", its standard error over the images (NaN for a single image).

    Raises
    ------
    ValueError
        If edges do not increase or are out of range, and as `forgrad` does.
    TypeError
        If `metric` cannot score image by image.

    Examples
    --------
    >>> table = band_importance(np.random.default_rng(0).standard_normal((4, 64, 64)))
    >>> table["high"].tolist()[:4], round(float(table["energy"].sum()), 6)
    ([0.0, 1.0, 2.0, 4.0], 1.0)
    """
    if metric is not None and not hasattr(metric, "evaluate_per_image"):
        raise TypeError(
            f"`metric` is a {type(metric).__name__}; give one that scores image by image, such as "
            "Faithfulness(model, inputs, targets, activation='softmax')."
        )
    explanations = checked_maps(explanations, rectify)
    shape = tuple(explanations.shape[1:3])
    highs = _checked_edges(edges, shape)
    columns = {"energy": _band_shares(explanations, highs, rectify)}
    if metric is not None:
        maps = rectified(explanations, rectify)
        # exactly constant, and at the end the very map: transforms would break ties by rounding
        lower = tf.zeros_like(maps) + tf.reduce_mean(maps, axis=(1, 2), keepdims=True)
        alone, whole = [_scores(metric, lower)], [_scores(metric, lower)]
        for high in highs:
            upper = maps if high == highs[-1] else forgrad(maps, high, rectify=None)
            both = [upper - lower, upper]
            if rectify == "magnitude":  # as the filter does
                both = [tf.abs(part) for part in both]
            alone.append(_scores(metric, both[0]))
            whole.append(_scores(metric, both[1]))
            lower = upper
        columns["alone"] = np.array(alone)
        columns["added"] = np.diff(whole, axis=0, prepend=0)
    table = pd.DataFrame({"low": [0.0, 0.0, *highs[:-1]], "high": [0.0, *highs]})
    for name, values in columns.items():
        table[name] = values.mean(axis=1)
        table[f"{name}_error"] = standard_error(values)
    return table


def _band_shares(explanations: tf.Tensor, highs: list[float], rectify: str | None) -> np.ndarray:
    """Share of each map's energy in each band, the mean first, of shape (bands, N)."""
    parts = []
    for maps in batches(explanations, rectify):
        radius = frequency_radius(maps.shape[2:], half=True).numpy()
        # a cutoff keeps the frequency that it names, as in the filter
        bands = np.searchsorted(np.array([0.0, *highs]) * (1 + 2e-7), radius)
        peaks = tf.reduce_max(tf.abs(maps), (1, 2, 3), keepdims=True)
        power = power_of(tf.math.divide_no_nan(maps, peaks))
        parts.append(sums_by(power, bands, 1 + len(highs)))
    energies = np.concatenate(parts).T
    return ratio(energies, energies.sum(axis=0))


def _scores(metric: ImageMetric, maps: tf.Tensor) -> np.ndarray:
    """The metric's score of each map, checked."""
    scores = np.asarray(metric.evaluate_per_image(maps), np.float64)
    if scores.shape != (len(maps),) or not np.isfinite(scores).all():
        raise ValueError(
            f"The metric gave scores of shape {scores.shape} for {len(maps)} maps, or NaN; it must "
            "give one finite number a map."
        )
    return scores


def _checked_edges(edges: Sequence[float] | None, shape: tuple[int, int]) -> list[float]:
    """Upper ends of the bands, the full band last."""
    full = full_band_sigma(shape)
    octaves = 2.0 ** np.arange(max(1, np.ceil(np.log2(full))))
    given = octaves if edges is None else np.asarray(edges)
    highs = np.asarray(checked_sigma(given, shape, name="edges"), np.float64)
    if highs.ndim != 1 or not len(highs) or np.any(np.diff(highs) <= 0):
        raise ValueError(f"`edges` are {edges}; give increasing cutoffs, such as [1, 2, 4, 8].")
    return [*highs[highs < full].tolist(), full]
