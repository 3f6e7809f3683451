"""
Spectra of maps: amplitudes, power over the radius, and what two sets of maps share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..filtering._transforms import complex_dtype
from ._power import Explanations, batches, checked_maps, ratio, ring_sums, unit_peak


class RadialSpectrum(NamedTuple):
    """
    Power of maps over the radius of the frequency.

    Attributes
    ----------
    radius
        Centre of each ring in cycles along the longest side, the unit of sigma: 0, 1, 2, ..., of
        shape (R,). Ring k holds the frequencies of radius k - 0.5 (included) to k + 0.5.
    power
        Power of each map in each ring, of shape (N, R), summed over the ring and the channels. Over
        all rings it is the map's energy, the sum of its squared values.
    """

    radius: np.ndarray
    power: np.ndarray


class RingCorrelation(NamedTuple):
    """
    Agreement of two sets of maps over the radius of the frequency.

    Attributes
    ----------
    radius
        Centre of each ring in cycles along the longest side, of shape (R,), see `RadialSpectrum`.
    correlation
        Correlation in each ring, in [-1, 1], of shape (R,): 1 for equal maps, about 0 for maps that
        have nothing to do with each other. 0 in rings without power.
    """

    radius: np.ndarray
    correlation: np.ndarray

    def resolution(self, threshold: float = 0.5) -> float:
        """
        The largest radius up to which the correlation stays at the threshold or above.

        Parameters
        ----------
        threshold
            0.5 is where half of the power is common to both.

        Returns
        -------
        sigma :
            Radius in cycles along the longest side, the unit of sigma; 0 if they agree nowhere.

        Raises
        ------
        ValueError
            If the threshold is not between 0 and 1.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"`threshold` is {threshold!r}; give a number above 0, up to 1.")
        below = np.flatnonzero(self.correlation[1:] < threshold)
        nb_above = below[0] if len(below) else len(self.correlation) - 1
        return float(self.radius[nb_above])


def fourier_signature(explanations: Explanations, *, rectify: str | None = None) -> np.ndarray:
    r"""
    Mean amplitude spectrum of attribution maps, zero frequency in the centre.

    At each frequency $k$ it is the mean over maps and channels of

    $$|\textstyle\sum_x \phi(x) \exp(-2 i \pi k x / n)|,$$

    shifted by `np.fft.fftshift`. The methods that explain a model differ in it at a glance.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591 (sec. 3.1, fig. 2).

    Parameters
    ----------
    explanations
        Maps of shape (N, H, W) or (N, H, W, C), real: an array, a Tensor, or a `tf.data.Dataset`
        or an iterator of batches of them, which is read as a stream.
    rectify
        "magnitude" or "positive" to take the magnitude or the positive part first. None takes maps
        as they are: the default of every measure, unlike that of `forgrad`, since a magnitude has
        another spectrum than the map that is to be measured.

    Returns
    -------
    signature :
        Amplitudes of shape (H, W), float64, in the unit of the maps times pixels: at the centre,
        (H // 2, W // 2), the mean over maps of |sum of the map|.

    Raises
    ------
    ValueError
        If maps have other shapes, sizes that differ, or NaN or infinite values; there are none.
    TypeError
        If maps are no real numbers.

    Examples
    --------
    >>> fourier_signature(tf.random.normal((8, 64, 48, 1))).shape
    (64, 48)
    """
    total = np.zeros(())
    nb_maps = 0
    for maps in batches(explanations, rectify):
        amplitudes = tf.abs(tf.signal.fft2d(tf.cast(maps, complex_dtype(maps.dtype))))
        total = total + tf.reduce_sum(tf.cast(amplitudes, tf.float64), axis=(0, 1)).numpy()
        nb_maps += maps.shape[0] * maps.shape[1]
    return np.fft.fftshift(total / nb_maps)


def radial_spectrum(explanations: Explanations, *, rectify: str | None = None) -> RadialSpectrum:
    """
    Power of attribution maps over the radius of the frequency, ring by ring.

    The power of a frequency is $|F(k)|^2 / (H W)$, so that by Parseval's theorem the rings of a map
    sum up to its energy. The radius is that of `frequency_radius`, right for H != W.

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    spectrum :
        `RadialSpectrum`: radii (R,) in cycles along the longest side, and power (N, R).

    Raises
    ------
    ValueError
        If maps have other shapes, sizes that differ, or NaN or infinite values; there are none.
    TypeError
        If maps are no real numbers.

    Examples
    --------
    >>> spectrum = radial_spectrum(tf.ones((2, 8, 8)))
    >>> spectrum.power[0, :3]
    array([64.,  0.,  0.])
    """
    power = np.concatenate([ring_sums(maps) for maps in batches(explanations, rectify)])
    return RadialSpectrum(np.arange(power.shape[1], dtype=np.float64), power)


def fourier_ring_correlation(
    explanations: npt.ArrayLike | tf.Tensor,
    others: npt.ArrayLike | tf.Tensor,
    *,
    rectify: str | None = None,
) -> RingCorrelation:
    r"""
    Correlation of two sets of maps ring by ring: up to which frequency they agree.

    $$\textstyle\operatorname{Re} \sum F \bar G / \sqrt{\sum |F|^2 \sum |G|^2},$$

    summed over the frequencies of a ring, all maps, each scaled to unit energy, and their channels;
    $F$ and $G$ are their Fourier transforms. Between the maps of two noisy copies of the same
    images it falls where noise takes over: the resolution of the maps.

    Ref. Saxton & Baumeister, The correlation averaging of a regularly arranged bacterial cell
    envelope protein (1982); van Heel & Schatz, Fourier shell correlation threshold criteria (2005).

    Parameters
    ----------
    explanations
        Maps of shape (N, H, W) or (N, H, W, C), an array or a Tensor.
    others
        Other maps of the same shape.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    correlation :
        `RingCorrelation`: radii (R,) and correlations (R,).

    Raises
    ------
    ValueError
        If the shapes differ, and as `fourier_signature` does.
    TypeError
        If maps are no real numbers.

    Examples
    --------
    >>> from xplique_forgrad import forgrad
    >>> noise = np.random.default_rng(0).standard_normal((2, 4, 32, 32))
    >>> low = forgrad(noise[0], sigma=6, rectify=None).numpy()
    >>> fourier_ring_correlation(low + 1e-3 * noise[0], low + 1e-3 * noise[1]).resolution()
    6.0
    """
    explanations, others = checked_maps(explanations, rectify), checked_maps(others, rectify)
    if explanations.shape != others.shape:
        raise ValueError(
            f"The maps have shapes {explanations.shape} and {others.shape}; give two of the same."
        )
    others = tf.cast(others, explanations.dtype)
    sums = np.zeros(())
    for both in zip(batches(explanations, rectify), batches(others, rectify)):
        first, second = (unit_peak(maps) for maps in both)
        products = ring_sums(first, second)
        energies = [ring_sums(maps) for maps in (first, second)]
        totals = [energy.sum(1, keepdims=True) for energy in energies]
        shares = [
            ratio(products, np.sqrt(totals[0] * totals[1])),
            *(ratio(energy, total) for energy, total in zip(energies, totals)),
        ]
        sums = sums + np.array([share.sum(axis=0) for share in shares])
    correlation = ratio(sums[0], np.sqrt(sums[1] * sums[2]))
    return RingCorrelation(np.arange(len(correlation), dtype=np.float64), correlation)
