"""
From maps to spectra and back: by FFT, or on a CPU by products with the few sinusoids kept.

Maps that are mirrored at their borders are sums of cosines: their cosine transform is the Fourier
transform of the mirrored map, twice as long along each axis.

A plan says how to filter maps of one size at one cutoff. It holds NumPy arrays, or tensors where
the cutoff or the size is one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ._windows import gain


class Plan(NamedTuple):
    """
    How to filter maps.

    Attributes
    ----------
    mask
        Gain of each coefficient, of the dtype of the coefficients.
    bases
        Orthonormal sinusoids of each axis, of shape (nb_sinusoids, size): the coefficients are
        the products with them. With reflected borders all are cosines. Empty where the
        coefficients come from an FFT.
    """

    mask: np.ndarray | tf.Tensor
    bases: tuple[np.ndarray | tf.Tensor, ...]


def fourier_plan(
    shape: tuple[int | tf.Tensor, ...],
    sigma: float | np.ndarray | tf.Tensor,
    window: str,
    border: str,
    dtype: tf.DType,
) -> Plan:
    """Filter by FFT, whatever the sizes and cutoffs: tensors, or one cutoff per map."""
    mask = gain(shape, sigma, window, half=len(shape) < 3, border=border)
    return Plan(tf.cast(mask, spectrum_dtype(dtype, border)), ())


@lru_cache(maxsize=64)
def cached_plan(
    shape: tuple[int, ...],
    sigma: float,
    window: str,
    border: str,
    dtype: tf.DType,
    by_products: bool,
) -> Plan:
    """Filter by products or by FFT, where size and cutoff are plain numbers."""
    mask = _mask(shape, sigma, window, border)
    if not by_products:
        if border == "periodic" and len(shape) < 3:
            mask = mask[..., : shape[-1] // 2 + 1]
        return Plan(mask.astype(spectrum_dtype(dtype, border).as_numpy_dtype), ())
    nb_kept = nb_sinusoids(shape, sigma, window, border)
    if border == "reflect":
        basis, harmonics = _cosines, [np.arange(nb) for nb in nb_kept]
    else:
        basis, harmonics = _sinusoids, [_harmonics(nb) for nb in nb_kept]
    return Plan(
        mask[np.ix_(*harmonics)].T.astype(dtype.as_numpy_dtype),
        tuple(basis(size, nb).astype(dtype.as_numpy_dtype) for size, nb in zip(shape, nb_kept)),
    )


def products_pay_off(
    shape: tuple[int, ...],
    sigma: float,
    window: str,
    border: str,
    nb_values: int,
    nb_cutoffs: int = 1,
) -> bool:
    """
    Whether matrix products beat the FFT on a CPU (thresholds read off benchmarks/filter.py).

    An FFT costs about as much as 200 products per value. Products need some work to be worth
    their overhead, and a sweep does only the second half of them at each cutoff. A cosine
    transform costs about as much as three FFTs, with more overhead than products have.
    """
    if len(shape) == 3:
        return False
    nb_kept = nb_sinusoids(shape, sigma, window, border)
    nb_products: float = nb_kept[0]
    if len(shape) == 2:
        nb_products = nb_kept[1] * (1 + nb_kept[0] / shape[1])
    affordable = 100 * len(shape)
    if border == "reflect":
        return nb_products <= 3 * affordable
    if nb_cutoffs > 1:
        affordable *= 2
    return nb_products <= min(affordable, (nb_values * nb_cutoffs - 20_000) / 1_000)


@lru_cache(maxsize=1024)
def nb_sinusoids(shape: tuple[int, ...], sigma: float, window: str, border: str) -> tuple[int, ...]:
    """Number of sinusoids that the window keeps along each axis."""
    mask = _mask(shape, sigma, window, border)
    counts = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        counts.append(int(np.count_nonzero(mask.any(axis=others))))
    return tuple(counts)


@lru_cache(maxsize=4)
def _mask(shape: tuple[int, ...], sigma: float, window: str, border: str) -> np.ndarray:
    # also while a caller's function is traced, and then not part of it; a new cutoff needs it
    # twice, for the choice of the plan and for the plan
    with tf.init_scope(), tf.device("CPU"):
        return gain(shape, sigma, window, border=border).numpy()


def rectified(maps: tf.Tensor, rectify: str | None) -> tf.Tensor:
    """The maps, their magnitude or their positive part."""
    if rectify == "magnitude":
        return tf.abs(maps)
    if rectify == "positive":
        # keeps NaN, unlike tf.nn.relu
        return tf.where(maps > 0, maps, maps - maps)
    return maps


def analyse(maps: tf.Tensor, bases: tuple[tf.Tensor, ...], nb_axes: int, border: str) -> tf.Tensor:
    """Coefficients of maps along their last `nb_axes` axes, in reverse order given `bases`."""
    if bases:
        # tensordot: a tf.matmul that broadcasts the bases corrupts memory (tensorflow#117700)
        coefficients = tf.tensordot(maps, bases[-1], axes=[[-1], [1]])
        if nb_axes == 2:
            coefficients = tf.tensordot(coefficients, bases[0], axes=[[-2], [1]])
        return coefficients
    if border == "reflect":
        return _along_last_axes(tf.signal.dct, maps, nb_axes)
    if nb_axes == 3:
        # tf.signal.rfft3d has no gradient
        return tf.signal.fft3d(tf.cast(maps, complex_dtype(maps.dtype)))
    return tf.signal.rfft2d(maps) if nb_axes == 2 else tf.signal.rfft(maps)


def synthesise(
    coefficients: tf.Tensor,
    bases: tuple[tf.Tensor, ...],
    sizes: tf.Tensor,
    nb_axes: int,
    border: str,
) -> tf.Tensor:
    """Maps of the given sizes from their coefficients: the inverse of `analyse`."""
    if bases:
        if nb_axes == 2:
            coefficients = tf.tensordot(coefficients, bases[0], axes=[[-1], [0]])
        return tf.tensordot(coefficients, bases[-1], axes=[[-nb_axes], [0]])
    if border == "reflect":
        return _along_last_axes(tf.signal.idct, coefficients, nb_axes)
    if nb_axes == 3:
        return tf.math.real(tf.signal.ifft3d(coefficients))
    inverse = tf.signal.irfft2d if nb_axes == 2 else tf.signal.irfft
    return inverse(coefficients, fft_length=sizes)


def narrowed(
    coefficients: tf.Tensor, bases: tuple[tf.Tensor, ...], nb_kept: tf.Tensor, nb_axes: int
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Of coefficients and their sinusoids the first ones: those that a narrower mask keeps."""
    counts = tf.unstack(nb_kept, nb_axes)
    kept = coefficients[(Ellipsis,) + tuple(slice(nb) for nb in counts)]
    return kept, tuple(basis[:nb] for basis, nb in zip(bases, reversed(counts)))


def spectrum_dtype(dtype: tf.DType, border: str) -> tf.DType:
    """Of the coefficients that an FFT gives; those of a cosine transform are real."""
    return dtype if border == "reflect" else complex_dtype(dtype)


def complex_dtype(dtype: tf.DType) -> tf.DType:
    return tf.complex128 if dtype == tf.float64 else tf.complex64


def _along_last_axes(
    transform: Callable[..., tf.Tensor], maps: tf.Tensor, nb_axes: int
) -> tf.Tensor:
    """An orthonormal cosine transform, which takes the last axis, of each of the last ones."""
    rank = len(maps.shape)
    last_first = [*range(rank - nb_axes), rank - 1, *range(rank - nb_axes, rank - 1)]
    for _ in range(nb_axes):
        maps = tf.transpose(transform(maps, norm="ortho"), last_first)
    return maps


def _harmonics(nb_sinusoids: int) -> np.ndarray:
    """Frequency of each row of `_sinusoids`: 0, 1, 1, 2, 2, ..."""
    return (np.arange(nb_sinusoids) + 1) // 2


def _sinusoids(size: int, nb_sinusoids: int) -> np.ndarray:
    """First rows of the orthonormal real Fourier basis: mean, cos 1, sin 1, cos 2, sin 2, ..."""
    rows = np.arange(nb_sinusoids)
    # exact multiples of the turn: the argument stays small
    turns = np.outer(_harmonics(nb_sinusoids), np.arange(size)) % size / size
    phases = np.where(rows % 2 == 0, 0.25, 0.0) * (rows > 0)
    basis = np.cos(2 * np.pi * (turns - phases[:, None])) * np.sqrt(2.0 / size)
    alone = (rows == 0) | (2 * _harmonics(nb_sinusoids) == size)
    basis[alone] /= np.sqrt(2.0)
    return basis


def _cosines(size: int, nb_sinusoids: int) -> np.ndarray:
    """First rows of the orthonormal cosine transform (DCT-II): 0, 1/2, 1, ... cycles."""
    # exact multiples of the turn: the argument stays small
    turns = np.outer(np.arange(nb_sinusoids), 2 * np.arange(size) + 1) % (4 * size) / (4 * size)
    basis = np.cos(2 * np.pi * turns) * np.sqrt(2.0 / size)
    basis[0] /= np.sqrt(2.0)
    return basis
