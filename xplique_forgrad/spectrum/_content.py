"""
How much high frequency maps hold: one number a map, invariant to its scale.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image
from scipy import ndimage

from .._checks import check_choice
from ..filtering import frequency_radius, low_pass_mask
from ..filtering._checks import checked_sigma
from ._power import Explanations, per_map, power_of, ratio, share_of, unit_peak

CODECS = ("png", "zlib", "bz2", "lzma")

# a map whose values differ by less, relative to the largest, is constant up to rounding
_ROUNDING = {tf.float32: 1e-6, tf.float64: 1e-13}


def high_frequency_power(
    explanations: Explanations,
    sigma: float | None = None,
    *,
    window: str = "disk",
    rectify: str | None = None,
) -> np.ndarray:
    r"""
    Share of each map's spectral power beyond a cutoff.

    $$\textstyle\sum_{r(k) > \sigma} |F(k)|^2 / \sum_k |F(k)|^2,$$

    with $r$ the `frequency_radius`, and the zero frequency included: the share of the map's energy
    that `forgrad` takes away at that cutoff. White noise has about $1 - \pi \sigma^2 / (H W)$. A
    signed map has next to no mean, which inflates its share: to compare signed with unsigned
    methods, compare magnitudes too (`rectify="magnitude"`).

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
    share :
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
        return share_of(maps, 1 - low_pass_mask(shape, cutoff, window, half=True))

    return per_map(explanations, rectify, share)


def share_outside(explanations: Explanations, limits: Sequence[float]) -> np.ndarray:
    """
    Share of each map's power beyond limits of their own down and across, in cycles per pixel.

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    limits
        Highest frequency that is kept along the height and along the width, of which a frequency
        must pass but one to count.

    Returns
    -------
    share :
        One number in [0, 1] a map, of shape (N,). A map of zeros has 0.

    Raises
    ------
    ValueError
        If maps have other shapes, sizes that differ, or NaN or infinite values; there are none.
    TypeError
        If maps are no real numbers.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((4, 64, 64))
    >>> float(share_outside(noise, limits=[0.25, 0.25]).mean().round(1))
    0.7
    """

    def share(maps):
        height, width = maps.shape[2:]
        down = np.abs(np.fft.fftfreq(height))[:, np.newaxis] > limits[0] + 1e-9
        across = np.fft.rfftfreq(width) > limits[1] + 1e-9
        return share_of(maps, down | across)

    return per_map(explanations, None, share)


def expected_frequency(explanations: Explanations, *, rectify: str | None = None) -> np.ndarray:
    r"""
    Mean radius of each map's frequencies, weighted by their power: its spectral centroid.

    $$\textstyle\sum_k r(k) |F(k)|^2 / \sum_k |F(k)|^2,$$

    with $r$ the `frequency_radius`, and the zero frequency included.

    Parameters
    ----------
    explanations
        Maps, see `fourier_signature`.
    rectify
        "magnitude", "positive" or None, see `fourier_signature`.

    Returns
    -------
    frequency :
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
        power = power_of(unit_peak(maps))
        radius = tf.cast(frequency_radius(tuple(maps.shape[2:]), half=True), maps.dtype)
        return ratio(tf.reduce_sum(power * radius, (-2, -1)), tf.reduce_sum(power, (-2, -1)))

    return per_map(explanations, rectify, centroid)


def mean_absolute_laplacian(
    explanations: Explanations, *, rectify: str | None = None
) -> np.ndarray:
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
    laplacian :
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
        unit = unit_peak(maps).numpy()
        edges = np.abs(ndimage.laplace(unit, mode="nearest", axes=(2, 3))).mean((-2, -1))
        deviations = np.where(_is_constant(unit, maps.dtype), 0, unit.std((-2, -1)))
        return ratio(edges, deviations)

    return per_map(explanations, rectify, laplacian)


def compressed_size(
    explanations: Explanations,
    *,
    codec: str = "png",
    nb_bits: int = 8,
    rectify: str | None = None,
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
    size :
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
        unit = unit_peak(maps).numpy().astype(np.float64)
        low = unit.min((-2, -1), keepdims=True)
        heights = unit.max((-2, -1), keepdims=True) - low
        flat = _is_constant(unit, maps.dtype)[..., None, None]
        levels = np.where(flat, 0, (unit - low) / np.where(flat, 1, heights)) * (nb_levels - 1)
        images = np.rint(levels).astype(np.uint8)
        return np.array([[_nb_bytes(image, codec) for image in channels] for channels in images])

    return per_map(explanations, rectify, size)


def _is_constant(unit: np.ndarray, dtype: tf.DType) -> np.ndarray:
    """Which maps of unit peak differ from a constant by rounding alone."""
    return np.ptp(unit, axis=(-2, -1)) <= _ROUNDING[dtype]


def _nb_bytes(image: np.ndarray, codec: str) -> int:
    if codec == "png":
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=9)
        return buffer.tell()
    compress = {"zlib": lambda raw: zlib.compress(raw, 9), "bz2": bz2.compress}
    return len(compress.get(codec, lzma.compress)(image.tobytes()))
