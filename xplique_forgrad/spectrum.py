"""
Spectra of attribution maps, how much high frequency they hold, and what each band is worth.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from .filtering import forgrad_sweep, frequency_radius, full_band_sigma, low_pass_mask
from .filtering.checks import (
    RECTIFICATIONS,
    check_choice,
    check_finite,
    checked_axes,
    checked_explanations,
    checked_sigma,
)
from .filtering.transforms import complex_dtype, rectified

CODECS = ("png", "zlib", "bz2", "lzma")

# values that are transformed at once
_CHUNK = 2**23
# a map whose values differ by less, relative to the largest, is constant up to rounding
_ROUNDING = {tf.float32: 1e-6, tf.float64: 1e-13}


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
        sigma
            Radius in cycles along the longest side, the unit of sigma; at least 1.
        """
        below = np.flatnonzero(self.correlation[1:] < threshold)
        nb_above = below[0] if len(below) else len(self.correlation) - 1
        return max(1.0, float(self.radius[nb_above]))


def fourier_signature(explanations: Any, *, rectify: str | None = None) -> np.ndarray:
    """
    Mean amplitude spectrum of attribution maps, zero frequency in the centre.

    signature(k) = mean over maps and channels of |sum_x phi(x) exp(-2 i pi k x / n)|, shifted by
    `np.fft.fftshift`. The methods that explain a model differ in it at a glance.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591 (sec. 3.1, fig. 2).

    Parameters
    ----------
    explanations
        Maps of shape (N, H, W) or (N, H, W, C), real: an array, a Tensor, or a `tf.data.Dataset`
        or an iterator of batches of them, which is read as a stream.
    rectify
        "magnitude" or "positive" to take the magnitude or the positive part first; None to take
        maps as they are.

    Returns
    -------
    signature
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
    total: Any = 0.0
    nb_maps = 0
    for maps in _batches(explanations, rectify):
        amplitudes = tf.abs(tf.signal.fft2d(tf.cast(maps, complex_dtype(maps.dtype))))
        total = total + tf.reduce_sum(tf.cast(amplitudes, tf.float64), axis=(0, 1)).numpy()
        nb_maps += maps.shape[0] * maps.shape[1]
    return np.fft.fftshift(total / nb_maps)


def radial_spectrum(explanations: Any, *, rectify: str | None = None) -> RadialSpectrum:
    """
    Power of attribution maps over the radius of the frequency, ring by ring.

    The power of a frequency is |F(k)|^2 / (H W), so that by Parseval's theorem the rings of a map
    sum up to its energy. The radius is that of `frequency_radius`, right for H != W.

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    spectrum
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
    power = np.concatenate([_ring_sums(maps) for maps in _batches(explanations, rectify)])
    return RadialSpectrum(np.arange(power.shape[1], dtype=np.float64), power)


def fourier_ring_correlation(
    explanations: Any, others: Any, *, rectify: str | None = None
) -> RingCorrelation:
    """
    Correlation of two sets of maps ring by ring: up to which frequency they agree.

    Re sum F(k) conj(G(k)) / sqrt(sum |F(k)|^2 sum |G(k)|^2), summed over the frequencies of a ring,
    all maps, each scaled to unit energy, and their channels. Between the maps of two noisy copies
    of the same images it falls where noise takes over: the resolution of the maps.

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
    correlation
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
    shapes = np.shape(explanations), np.shape(others)
    if shapes[0] != shapes[1]:
        raise ValueError(f"The maps have shapes {shapes[0]} and {shapes[1]}; give two of the same.")
    sums: Any = 0.0
    for both in zip(_batches(explanations, rectify), _batches(others, rectify)):
        first, second = (_unit_peak(maps) for maps in both)
        products = _ring_sums(first, second)
        energies = [_ring_sums(maps) for maps in (first, second)]
        totals = [energy.sum(1, keepdims=True) for energy in energies]
        shares = [
            _ratio(products, np.sqrt(totals[0] * totals[1])),
            *(_ratio(energy, total) for energy, total in zip(energies, totals)),
        ]
        sums = sums + np.array([share.sum(axis=0) for share in shares])
    correlation = _ratio(sums[0], np.sqrt(sums[1] * sums[2]))
    return RingCorrelation(np.arange(len(correlation), dtype=np.float64), correlation)


def high_frequency_power(
    explanations: Any,
    sigma: float | None = None,
    *,
    window: str = "disk",
    rectify: str | None = None,
) -> np.ndarray:
    """
    Share of each map's spectral power beyond a cutoff.

    sum_{r(k) > sigma} |F(k)|^2 / sum_k |F(k)|^2, the zero frequency included: the share of the
    map's energy that `forgrad` takes away at that cutoff. White noise has about
    1 - pi sigma^2 / (H W). A signed map has next to no mean, which inflates its share: to compare
    signed with unsigned methods, compare magnitudes too (`rectify="magnitude"`).

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    sigma
        Cutoff in cycles along the longest side, 0 < sigma <= max(H, W). None is a quarter of the
        longest side, half of the highest frequency along an axis.
    window
        "disk", or "box" to keep what lies within the cutoff along each axis.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    share
        One number in [0, 1] a map, of shape (N,), the mean over channels. A map of zeros has 0.

    Raises
    ------
    ValueError
        If `sigma` is out of range, and as `fourier_signature` does.
    TypeError
        If maps or `sigma` are no real numbers.

    Examples
    --------
    >>> share = high_frequency_power(tf.random.normal((8, 64, 64, 1)), sigma=16)
    >>> share.shape
    (8,)
    """

    check_choice("window", window, ("disk", "box"))

    def share(maps):
        shape = tuple(maps.shape[2:])
        cutoff = max(shape) / 4 if sigma is None else checked_sigma(sigma, shape)
        if not isinstance(cutoff, float):
            raise ValueError(f"`sigma` is {sigma}; give one cutoff for all maps.")
        beyond = 1 - tf.cast(low_pass_mask(shape, cutoff, window, half=True), maps.dtype)
        power = _power(_unit_peak(maps))
        return _ratio(tf.reduce_sum(power * beyond, (-2, -1)), tf.reduce_sum(power, (-2, -1)))

    return _per_map(explanations, rectify, share)


def expected_frequency(explanations: Any, *, rectify: str | None = None) -> np.ndarray:
    """
    Mean radius of each map's frequencies, weighted by their power: its spectral centroid.

    sum_k r(k) |F(k)|^2 / sum_k |F(k)|^2, the zero frequency included.

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    frequency
        One number a map in cycles along the longest side, the unit of sigma, of shape (N,), the
        mean over channels. A constant map has 0.

    Raises
    ------
    ValueError
        If maps have other shapes, sizes that differ, or NaN or infinite values; there are none.
    TypeError
        If maps are no real numbers.

    Examples
    --------
    >>> grating = np.cos(2 * np.pi * 5 * np.arange(64) / 64) * np.ones((1, 64, 1))
    >>> expected_frequency(grating).round(3)
    array([5.])
    """

    def centroid(maps):
        power = _power(_unit_peak(maps))
        radius = tf.cast(frequency_radius(tuple(maps.shape[2:]), half=True), maps.dtype)
        return _ratio(tf.reduce_sum(power * radius, (-2, -1)), tf.reduce_sum(power, (-2, -1)))

    return _per_map(explanations, rectify, centroid)


def mean_absolute_laplacian(explanations: Any, *, rectify: str | None = None) -> np.ndarray:
    """
    Mean magnitude of the Laplacian of each map, divided by the map's standard deviation.

    The Laplacian is that of the four neighbours, u(i-1, j) + u(i+1, j) + u(i, j-1) + u(i, j+1)
    - 4 u(i, j), borders repeated. Dividing by the standard deviation makes it invariant to scale
    and offset; white noise has about 3.5. It measures edges: a map of flat blocks has much of it
    at their borders.

    Ref. Jain & al., Machine vision (1995); Pertuz & al., Analysis of focus measure operators for
    shape-from-focus (2013), as cited by Muzellec & al. (2024), sec. 3.1.

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    laplacian
        One number a map, without unit, of shape (N,), the mean over channels. A constant map has 0.

    Raises
    ------
    ValueError
        If maps have other shapes, sizes that differ, or NaN or infinite values; there are none.
    TypeError
        If maps are no real numbers.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((4, 64, 64, 1))
    >>> mean_absolute_laplacian(noise).round(1)
    array([3.5, 3.5, 3.5, 3.5])
    """

    def laplacian(maps):
        unit = _unit_peak(maps).numpy()
        edges = np.abs(ndimage.laplace(unit, mode="nearest", axes=(2, 3))).mean((-2, -1))
        deviations = np.where(_is_constant(unit, maps.dtype), 0, unit.std((-2, -1)))
        return _ratio(edges, deviations)

    return _per_map(explanations, rectify, laplacian)


def compressed_size(
    explanations: Any, *, codec: str = "png", nb_bits: int = 8, rectify: str | None = None
) -> np.ndarray:
    """
    Size of each map after lossless compression, in bytes.

    A loose bound on the map's Kolmogorov complexity, called "high-frequency content" in the paper.
    Each map is stretched from its own minimum and maximum to 2^nb_bits levels, and written as a
    grey image of 8 bits. So it does not depend on scale nor offset, but does on the size of the
    map, and by some bytes on the version of the compression library.

    Ref. Zenil & al., Image characterization and classification by physical complexity (2012), as
    cited by Muzellec & al. (2024), sec. 3.1, fig. 3.

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    codec
        "png", a PNG file written by Pillow at compression level 9; or "zlib" (level 9), "bz2"
        (level 9) or "lzma" (preset 6), of the bytes row by row without the filters of PNG.
    nb_bits
        Number of bits of the levels, 1 to 8.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    size
        Bytes of each map, of shape (N,), the mean over channels. A constant map is compressed as
        zeros.

    Raises
    ------
    ValueError
        If `codec` or `nb_bits` is unknown, and as `fourier_signature` does.
    TypeError
        If maps are no real numbers.

    Examples
    --------
    >>> smooth = np.ones((1, 64, 64)) * np.arange(64)
    >>> noise = np.random.default_rng(0).standard_normal((1, 64, 64))
    >>> bool(compressed_size(noise) > 10 * compressed_size(smooth))
    True
    """
    check_choice("codec", codec, CODECS)
    if isinstance(nb_bits, bool) or nb_bits not in range(1, 9):
        raise ValueError(f"`nb_bits` is {nb_bits!r}; give an integer from 1 to 8.")
    nb_levels = 2 ** int(nb_bits)

    def size(maps):
        unit = _unit_peak(maps).numpy().astype(np.float64)
        low = unit.min((-2, -1), keepdims=True)
        heights = unit.max((-2, -1), keepdims=True) - low
        flat = _is_constant(unit, maps.dtype)[..., None, None]
        levels = np.where(flat, 0, (unit - low) / np.where(flat, 1, heights)) * (nb_levels - 1)
        images = np.rint(levels).astype(np.uint8)
        return np.array([[_nb_bytes(image, codec) for image in channels] for channels in images])

    return _per_map(explanations, rectify, size)


def band_importance(
    explanations: Any,
    metric: Any = None,
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
    pixels the metric takes in its order for ties. *Added* sums up to the score of the full map.

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
        As in `forgrad`: "magnitude", "positive" or None, taken before the map is split.

    Returns
    -------
    table
        One row a band: "low" (not included) and "high" (included), in cycles; "energy", the mean
        over images of the band's share of the energy; with a metric "alone" and "added". Beside
        each, with the ending "_error", its standard error over the images (0 for a single image).

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
    explanations = _checked_maps(explanations, rectify)
    highs = _checked_edges(edges, tuple(explanations.shape[1:3]))
    maps = rectified(explanations, rectify)
    # exactly constant, and the very map: transforms would break ties by their rounding
    means = tf.zeros_like(maps) + tf.reduce_mean(maps, axis=(1, 2), keepdims=True)
    inner = [*forgrad_sweep(maps, highs[:-1], rectify=None)] if len(highs) > 1 else []
    low_passed = tf.stack([means, *inner, maps])
    bands = tf.concat([low_passed[:1], low_passed[1:] - low_passed[:-1]], axis=0)

    axes = list(range(2, len(bands.shape)))
    energies = tf.reduce_sum(tf.square(tf.cast(bands, tf.float64)), axes).numpy()
    columns = {"energy": _ratio(energies, energies.sum(axis=0))}
    if metric is not None:
        kept = tf.abs(low_passed) if rectify == "magnitude" else low_passed
        scores = np.array([metric.evaluate_per_image(maps) for maps in kept])
        columns["alone"] = np.array([metric.evaluate_per_image(maps) for maps in bands])
        columns["added"] = np.diff(scores, axis=0, prepend=0)
    table = pd.DataFrame({"low": [0.0, 0.0, *highs[:-1]], "high": [0.0, *highs]})
    for name, values in columns.items():
        nb_images = values.shape[1]
        table[name] = values.mean(axis=1)
        spread = values.std(axis=1, ddof=1) if nb_images > 1 else np.zeros(len(values))
        table[f"{name}_error"] = spread / np.sqrt(nb_images)
    return table


def _checked_edges(edges: Sequence[float] | None, shape: tuple[int, int]) -> list[float]:
    """Upper ends of the bands, the full band last."""
    full = full_band_sigma(shape)
    given = 2.0 ** np.arange(np.ceil(np.log2(full))) if edges is None else np.asarray(edges)
    highs = np.asarray(checked_sigma(given, shape, name="edges"), np.float64)
    if highs.ndim != 1 or not len(highs) or np.any(np.diff(highs) <= 0):
        raise ValueError(f"`edges` are {edges}; give increasing cutoffs, such as [1, 2, 4, 8].")
    return [*highs[highs < full].tolist(), full]


def _checked_maps(explanations: Any, rectify: str | None) -> tf.Tensor:
    """At least one map, (N, H, W) or (N, H, W, C), as float32 or float64."""
    check_choice("rectify", rectify, RECTIFICATIONS)
    maps = checked_explanations(explanations)
    checked_axes((1, 2), maps.shape)
    if not maps.shape[0]:
        raise ValueError(f"The explanations have shape {maps.shape}; give at least one map.")
    return maps if maps.dtype == tf.float64 else tf.cast(maps, tf.float32)


def _batches(explanations: Any, rectify: str | None) -> Iterator[tf.Tensor]:
    """Rectified, finite maps of shape (B, C, H, W), a part at a time."""
    streamed = isinstance(explanations, (tf.data.Dataset, Iterator))
    shape = None
    for batch in explanations if streamed else [explanations]:
        if streamed and not 3 <= len(getattr(batch, "shape", ())) <= 4:
            raise ValueError(
                f"The explanations are a stream of {getattr(batch, 'shape', type(batch).__name__)};"
                " it must give batches of maps, (B, H, W) or (B, H, W, C): add .batch(64)."
            )
        maps = _checked_maps(batch, rectify)
        if shape is not None and maps.shape[1:] != shape:
            raise ValueError(
                f"The stream gave maps of shape {tuple(shape)} and then {tuple(maps.shape[1:])}; "
                "maps of several sizes have no common frequencies. Resize them first."
            )
        shape = maps.shape[1:]
        if maps.shape.rank == 3:
            maps = maps[..., tf.newaxis]
        size = max(1, _CHUNK // int(np.prod(maps.shape[1:])))
        for start in range(0, maps.shape[0], size):
            part = maps[start : start + size]
            check_finite(tf.math.is_finite(tf.reduce_sum(tf.abs(part), (1, 2))), part)
            yield tf.transpose(rectified(part, rectify), (0, 3, 1, 2))
    if shape is None:
        raise ValueError("The stream of explanations is empty; give at least one batch of maps.")


def _per_map(
    explanations: Any, rectify: str | None, measure: Callable[[tf.Tensor], Any]
) -> np.ndarray:
    """Mean over channels of a measure that takes (B, C, H, W) to (B, C), of shape (N,)."""
    parts = [np.asarray(measure(maps)).mean(axis=1) for maps in _batches(explanations, rectify)]
    return np.concatenate(parts).astype(np.float64)


def _power(maps: tf.Tensor, others: tf.Tensor | None = None) -> tf.Tensor:
    """Re F conj(G) / (H W) at each frequency of the half spectrum, those left out counted in."""
    height, width = maps.shape[-2:]
    weights = np.full(width // 2 + 1, 2.0 / (height * width))
    weights[0] = 1.0 / (height * width)
    if width % 2 == 0:
        weights[-1] = weights[0]
    spectrum = tf.signal.rfft2d(maps)
    other = spectrum if others is None else tf.signal.rfft2d(others)
    power = tf.math.real(spectrum) * tf.math.real(other)
    power += tf.math.imag(spectrum) * tf.math.imag(other)
    return power * tf.constant(weights, maps.dtype)


def _ring_sums(maps: tf.Tensor, others: tf.Tensor | None = None) -> np.ndarray:
    """Cross power in each ring, summed over channels, of shape (B, R)."""
    rings = np.floor(frequency_radius(maps.shape[2:], half=True).numpy() + 0.5).astype(np.int32)
    power = tf.reduce_sum(tf.cast(_power(maps, others), tf.float64), axis=1)
    by_frequency = tf.transpose(tf.reshape(power, (maps.shape[0], -1)))
    sums = tf.math.unsorted_segment_sum(by_frequency, rings.ravel(), rings.max() + 1)
    return tf.transpose(sums).numpy()


def _unit_peak(maps: tf.Tensor) -> tf.Tensor:
    """Maps divided by their largest magnitude, so that squares neither vanish nor overflow."""
    return tf.math.divide_no_nan(maps, tf.reduce_max(tf.abs(maps), (-2, -1), keepdims=True))


def _is_constant(unit: np.ndarray, dtype: tf.DType) -> np.ndarray:
    """Which maps of unit peak differ from a constant by rounding alone."""
    return np.ptp(unit, axis=(-2, -1)) <= _ROUNDING[dtype]


def _ratio(above: Any, below: Any) -> np.ndarray:
    """The quotient, 0 where there is nothing to divide."""
    above, below = np.broadcast_arrays(np.float64(above), np.float64(below))
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)


def _nb_bytes(image: np.ndarray, codec: str) -> int:
    if codec == "png":
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=9)
        return buffer.tell()
    compress = {"zlib": lambda raw: zlib.compress(raw, 9), "bz2": bz2.compress}
    return len(compress.get(codec, lzma.compress)(image.tobytes()))
