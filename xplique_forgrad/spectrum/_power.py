"""
Maps in parts, and the power of their frequencies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from .._checks import check_choice
from ..filtering import frequency_radius
from ..filtering._checks import RECTIFICATIONS, check_finite, checked_axes, checked_explanations
from ..filtering._transforms import rectified

# maps (N, H, W) or (N, H, W, C), or a stream of batches of them
Explanations: TypeAlias = (
    npt.ArrayLike | tf.Tensor | tf.data.Dataset | Iterator[np.ndarray | tf.Tensor]
)
# values that are transformed at once
_CHUNK = 2**23


def checked_maps(explanations: npt.ArrayLike | tf.Tensor, rectify: str | None) -> tf.Tensor:
    """At least one map, (N, H, W) or (N, H, W, C), as float32 or float64."""
    check_choice("rectify", rectify, RECTIFICATIONS)
    maps = checked_explanations(explanations)
    checked_axes((1, 2), maps.shape)
    if not maps.shape[0]:
        raise ValueError(f"The explanations have shape {maps.shape}; give at least one map.")
    return maps if maps.dtype == tf.float64 else tf.cast(maps, tf.float32)


def batches(explanations: Explanations, rectify: str | None) -> Iterator[tf.Tensor]:
    """Rectified, finite maps of shape (B, C, H, W), a part at a time."""
    for maps in _checked_batches(explanations, rectify):
        size = max(1, _CHUNK // int(np.prod(maps.shape[1:])))
        for start in range(0, maps.shape[0], size):
            part = maps[start : start + size]
            check_finite(tf.math.is_finite(tf.reduce_sum(tf.abs(part), (1, 2))), part)
            yield tf.transpose(rectified(part, rectify), (0, 3, 1, 2))


def _checked_batches(explanations: Explanations, rectify: str | None) -> Iterator[tf.Tensor]:
    """The array, or the batches of the stream, as maps (B, H, W, C) of one size."""
    shape = None
    for maps in _arrays(explanations):
        maps = checked_maps(maps, rectify)
        if shape is not None and maps.shape[1:] != shape:
            raise ValueError(
                f"The stream gave maps of shape {tuple(shape)} and then {tuple(maps.shape[1:])}; "
                "maps of several sizes have no common frequencies. Resize them first."
            )
        shape = maps.shape[1:]
        yield maps[..., tf.newaxis] if maps.shape.rank == 3 else maps
    if shape is None:
        raise ValueError("The stream of explanations is empty; give at least one batch of maps.")


def _arrays(explanations: Explanations) -> Iterator[npt.ArrayLike | tf.Tensor]:
    """The array itself, or what the stream gives, which must be batches."""
    if isinstance(explanations, tf.data.Dataset):
        is_single = not _gives_batches(explanations)
        yield from (_checked_batch(batch, is_single) for batch in explanations)
    elif isinstance(explanations, Iterator):
        yield from (_checked_batch(batch, _looks_single(batch)) for batch in explanations)
    else:
        yield explanations


def _checked_batch(batch: np.ndarray | tf.Tensor, is_single: bool) -> np.ndarray | tf.Tensor:
    """Raise a ValueError unless what a stream gave is a batch of maps."""
    shape = tuple(getattr(batch, "shape", ()))
    if is_single or not 3 <= len(shape) <= 4:
        raise ValueError(
            f"The explanations are a stream of {shape or type(batch).__name__}; it must give "
            "batches of maps, (B, H, W) or (B, H, W, C): add .batch(64)."
        )
    return batch


def _looks_single(batch: np.ndarray | tf.Tensor) -> bool:
    """Whether it is likely one map (H, W, C), which looks like maps (B, H, W)."""
    shape = tuple(getattr(batch, "shape", ()))
    return len(shape) == 3 and shape[-1] in (1, 3)


def _gives_batches(dataset: tf.data.Dataset) -> bool:
    spec = getattr(dataset.element_spec, "shape", tf.TensorShape([]))
    known = spec.rank == 4 or (spec.rank == 3 and spec[0] is None)
    return known or hasattr(dataset, "_batch_size")


def per_map(
    explanations: Explanations,
    rectify: str | None,
    measure: Callable[[tf.Tensor], npt.ArrayLike | tf.Tensor],
) -> np.ndarray:
    """Mean over channels of a measure that takes (B, C, H, W) to (B, C), of shape (N,)."""
    parts = [np.asarray(measure(maps)).mean(axis=1) for maps in batches(explanations, rectify)]
    return np.concatenate(parts).astype(np.float64)


def power_of(maps: tf.Tensor, others: tf.Tensor | None = None) -> tf.Tensor:
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


def share_of(maps: tf.Tensor, counted: np.ndarray | tf.Tensor) -> np.ndarray:
    """Share of the power at the frequencies of the half spectrum that are counted."""
    power = power_of(unit_peak(maps))
    counted = tf.cast(counted, maps.dtype)
    return ratio(tf.reduce_sum(power * counted, (-2, -1)), tf.reduce_sum(power, (-2, -1)))


def ring_sums(maps: tf.Tensor, others: tf.Tensor | None = None) -> np.ndarray:
    """Cross power in each ring, summed over channels, of shape (B, R)."""
    rings = np.floor(frequency_radius(maps.shape[2:], half=True).numpy() + 0.5).astype(np.int32)
    # squares of float32 vanish below 1e-19 and overflow above 1e19
    scales = [_peaks(part) for part in (maps, maps if others is None else others)]
    units = [unit_peak(maps), None if others is None else unit_peak(others)]
    power = tf.cast(power_of(*units), tf.float64) * tf.cast(scales[0], tf.float64)
    return sums_by(power * tf.cast(scales[1], tf.float64), rings, rings.max() + 1)


def sums_by(power: tf.Tensor, labels: np.ndarray, nb_labels: int) -> np.ndarray:
    """Power (B, C, ...) summed over channels and the frequencies of each label, (B, nb_labels)."""
    summed = tf.reduce_sum(tf.cast(power, tf.float64), axis=1)
    by_frequency = tf.transpose(tf.reshape(summed, (summed.shape[0], -1)))
    sums = tf.math.unsorted_segment_sum(by_frequency, labels.ravel(), nb_labels)
    return tf.transpose(sums).numpy()


def unit_peak(maps: tf.Tensor) -> tf.Tensor:
    """Maps divided by their largest magnitude, so that squares neither vanish nor overflow."""
    return tf.math.divide_no_nan(maps, _peaks(maps))


def _peaks(maps: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.abs(maps), (-2, -1), keepdims=True)


def ratio(above: npt.ArrayLike | tf.Tensor, below: npt.ArrayLike | tf.Tensor) -> np.ndarray:
    """The quotient, 0 where there is nothing to divide."""
    above, below = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
