"""
High-frequency content of maps as complexity metrics of Xplique: one score a map, none of the model.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from xplique.metrics.base import BaseComplexityMetric

from ..spectrum import (
    compressed_size,
    expected_frequency,
    high_frequency_power,
    mean_absolute_laplacian,
)


class _MapMeasure(BaseComplexityMetric):
    """A measure of each map, of `xplique_forgrad.spectrum`; an objective of a search, too."""

    higher_is_better = False

    def __init__(self, batch_size: int = 32, rectify: str | None = None):
        super().__init__(batch_size)
        self.rectify = rectify

    @abstractmethod
    def _measure(self, explanations: Any) -> np.ndarray:
        """The measure of each map, with the options of the metric."""

    def detailed_evaluate(self, explanations: Any) -> np.ndarray:
        """
        Measure of each map.

        Parameters
        ----------
        explanations
            Maps of shape (N, H, W) or (N, H, W, C).

        Returns
        -------
        scores :
            One number a map, float64 of shape (N,).

        Raises
        ------
        ValueError
            If maps have other shapes, or NaN or infinite values.
        TypeError
            If maps are no real numbers.
        """
        return self._measure(explanations)


class HighFrequencyPower(_MapMeasure):
    """
    Share of each map's spectral power beyond a cutoff; higher means more high frequency.

    See `xplique_forgrad.spectrum.high_frequency_power` for the formula.

    Parameters
    ----------
    batch_size
        Number of maps to evaluate at once.
    sigma
        Cutoff in cycles along the longest side, 0 < sigma <= max(H, W). None is a quarter of it.
    rectify
        "magnitude" or "positive" to take the magnitude or the positive part of the maps first; None
        to take maps as they are.

    Examples
    --------
    >>> metric = HighFrequencyPower(sigma=16)
    >>> metric.detailed_evaluate(np.random.default_rng(0).standard_normal((4, 64, 64, 1))).round(1)
    array([0.8, 0.8, 0.8, 0.8])
    """

    def __init__(
        self, batch_size: int = 32, sigma: float | None = None, rectify: str | None = None
    ):
        super().__init__(batch_size, rectify)
        self.sigma = sigma

    def _measure(self, explanations: Any) -> np.ndarray:
        return high_frequency_power(explanations, self.sigma, rectify=self.rectify)


class ExpectedFrequency(_MapMeasure):
    """
    Mean radius of each map's frequencies, weighted by power, in cycles along the longest side.

    See `xplique_forgrad.spectrum.expected_frequency` for the formula.

    Parameters
    ----------
    batch_size
        Number of maps to evaluate at once.
    rectify
        "magnitude", "positive" or None, see `HighFrequencyPower`.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((4, 64, 64, 1))
    >>> round(ExpectedFrequency()(noise))
    24
    """

    def _measure(self, explanations: Any) -> np.ndarray:
        return expected_frequency(explanations, rectify=self.rectify)


class MeanAbsoluteLaplacian(_MapMeasure):
    """
    Mean magnitude of the Laplacian of each map, divided by the map's standard deviation.

    See `xplique_forgrad.spectrum.mean_absolute_laplacian` for the formula.

    Parameters
    ----------
    batch_size
        Number of maps to evaluate at once.
    rectify
        "magnitude", "positive" or None, see `HighFrequencyPower`.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((4, 64, 64, 1))
    >>> round(MeanAbsoluteLaplacian()(noise), 1)
    3.5
    """

    def _measure(self, explanations: Any) -> np.ndarray:
        return mean_absolute_laplacian(explanations, rectify=self.rectify)


class CompressedSize(_MapMeasure):
    """
    Size of each map after lossless compression, in bytes: a PNG file of 8 bits unless said else.

    See `xplique_forgrad.spectrum.compressed_size` for the quantisation.

    Parameters
    ----------
    batch_size
        Number of maps to evaluate at once.
    codec
        "png", "zlib", "bz2" or "lzma".
    nb_bits
        Number of bits of the levels that a map is rounded to, 1 to 8.
    rectify
        "magnitude", "positive" or None, see `HighFrequencyPower`.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((4, 64, 64, 1))
    >>> bool(CompressedSize()(noise) > 10 * CompressedSize()(0 * noise))
    True
    """

    def __init__(
        self,
        batch_size: int = 32,
        codec: str = "png",
        nb_bits: int = 8,
        rectify: str | None = None,
    ):
        super().__init__(batch_size, rectify)
        self.codec, self.nb_bits = codec, nb_bits

    def _measure(self, explanations: Any) -> np.ndarray:
        return compressed_size(
            explanations, codec=self.codec, nb_bits=self.nb_bits, rectify=self.rectify
        )
