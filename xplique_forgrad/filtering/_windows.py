"""
The windows of the low-pass filter: which frequencies it keeps, in which unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .._checks import check_choice
from ._checks import BORDERS, WINDOWS, checked_shape, checked_sigma

# A cutoff that went through float32 still keeps the frequency that it names: relative slack,
# far below the distance between two radii of any image up to 1,500 pixels wide.
_CUTOFF_SLACK = 2e-7


def frequency_radius(shape: Sequence[int | tf.Tensor], *, half: bool = False) -> tf.Tensor:
    r"""
    Distance of each discrete frequency from zero, in cycles along the longest axis.

    $$r(k) = L \sqrt{\textstyle\sum_i (k_i / n_i)^2},$$

    with $n_i$ the sizes, $L$ the largest of them and $k_i$ the signed integer frequency along axis
    $i$. On a square image it is the plain $|k|$, and on any other a circle of radius $r$ is still a
    circle in cycles per pixel: equally wide in x and y.

    Parameters
    ----------
    shape
        Sizes of the filtered axes, each at least 1, as integers or scalar tensors.
    half
        Give only the unique part of the spectrum of real maps, as `tf.signal.rfft2d` does: the
        last axis has n // 2 + 1 entries. Default to the whole spectrum.

    Returns
    -------
    radius :
        Radii of shape `shape`, float64, in the order of `np.fft.fftfreq`: zero frequency first,
        `np.fft.fftshift` centres it.

    Raises
    ------
    ValueError
        If a size is below 1, or there are not one to three of them.
    TypeError
        If a size is no integer.

    Examples
    --------
    >>> frequency_radius((4, 4)).numpy()[0]
    array([0., 1., 2., 1.])
    """
    return _radius(checked_shape(shape), half)


def low_pass_mask(
    shape: Sequence[int | tf.Tensor],
    sigma: tf.Tensor | ArrayLike,
    window: str = "disk",
    *,
    half: bool = False,
) -> tf.Tensor:
    r"""
    Gain of the low-pass filter at each discrete frequency, between 0 and 1.

    With $r$ the `frequency_radius`:

    - "disk": 1 where $r \le \sigma$, else 0. The window of Xplique's own `forgrad`.
    - "box": 1 where $L |k_i| / n_i \le \sigma$ along every axis, else 0. $K^\sigma$ of the paper.
    - "gaussian": $\exp(-r^2 / (2 \sigma^2))$, of gain 0.61 at the cutoff.
    - "butterworth": $1 / (1 + (r / \sigma)^4)$, of gain 0.5 at the cutoff (order 2).

    Disk and box cut sharply and ring beside edges; the other two do not ring visibly, and let a
    little of the higher frequencies pass. The zero frequency always has gain 1.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591 (sec. 3.4); Gonzalez & Woods,
    Digital image processing (2018), sec. 4.8 for the Gaussian and Butterworth windows.

    Parameters
    ----------
    shape
        Sizes of the filtered axes, each at least 1, as integers or scalar tensors.
    sigma
        Cutoff in cycles along the longest axis, 0 < sigma <= max(shape). A scalar, or a vector of
        S cutoffs for S masks. May be fractional, and may be a tensor.
    window
        One of "disk", "box", "gaussian", "butterworth".
    half
        Give only the unique part of the spectrum of real maps, see `frequency_radius`.

    Returns
    -------
    mask :
        Gains of shape `shape`, or (S, *shape) for a vector of cutoffs, float64, zero frequency
        first.

    Raises
    ------
    ValueError
        If a size is below 1, `sigma` is out of range or the window unknown.
    TypeError
        If `sigma` is no real number.

    Examples
    --------
    >>> low_pass_mask((224, 224), sigma=15).shape
    TensorShape([224, 224])
    """
    shape = checked_shape(shape)
    check_choice("window", window, WINDOWS)
    return gain(shape, checked_sigma(sigma, shape), window, half)


def gain(
    shape: Sequence[int | tf.Tensor],
    sigma: float | np.ndarray | tf.Tensor,
    window: str,
    half: bool = False,
    border: str = "periodic",
) -> tf.Tensor:
    """
    `low_pass_mask` of arguments that have been checked.

    With the border "reflect" the gains of the coefficients of a cosine transform, which has no
    half to leave out: 0, 1/2, 1, ... cycles along each axis.
    """
    sigma = tf.convert_to_tensor(sigma, tf.float64)[(...,) + (tf.newaxis,) * len(shape)]
    if window == "box":
        radius = reduce(tf.maximum, _axis_frequencies(shape, half, border))
    else:
        radius = _radius(shape, half, border)

    if window == "gaussian":
        return tf.exp(-0.5 * tf.square(radius / sigma))
    if window == "butterworth":
        return 1.0 / (1.0 + (radius / sigma) ** 4)
    # NaN where sigma is: a cutoff out of range, found only while an XLA graph runs
    return tf.cast(radius <= sigma * (1.0 + _CUTOFF_SLACK), tf.float64) + 0.0 * sigma


def full_band_sigma(
    shape: Sequence[int], window: str = "disk", *, border: str = "periodic"
) -> float:
    r"""
    The smallest cutoff that keeps every frequency: from there on, filtering changes nothing.

    Parameters
    ----------
    shape
        Sizes of the filtered axes, each at least 1: (H, W) for images.
    window
        "disk" or "box". The other two never keep everything.
    border
        "periodic" or "reflect", see `forgrad`. What keeps everything of periodic maps keeps
        everything of reflected ones too: their highest frequency is no higher.

    Returns
    -------
    sigma :
        Cutoff in cycles along the longest axis. For a square image of an even size $n$,
        $n / \sqrt{2}$ with a disk and $n / 2$ with a box; with reflected borders $n - 1$ in place
        of $n$. 1 where every size is 1.

    Raises
    ------
    ValueError
        If a size is below 1, the border unknown, or the window has no such cutoff.

    Examples
    --------
    >>> full_band_sigma((224, 224), window="box")
    112.0
    """
    shape = checked_shape(shape)
    check_choice("window", window, WINDOWS)
    check_choice("border", border, BORDERS)
    nb_halves = [size - 1 if border == "reflect" else size - size % 2 for size in shape]
    highest = [max(shape) * nb / (2 * size) for nb, size in zip(nb_halves, shape)]
    if window == "disk":
        return float(np.sqrt(np.sum(np.square(highest)))) or 1.0
    if window == "box":
        return float(max(highest)) or 1.0
    raise ValueError(
        f"A {window!r} window attenuates every frequency but zero, whatever its cutoff: it has no "
        "full band. Only 'disk' and 'box' have one."
    )


def _radius(shape: Sequence[int | tf.Tensor], half: bool, border: str = "periodic") -> tf.Tensor:
    frequencies = _axis_frequencies(shape, half, border)
    return tf.sqrt(sum(tf.square(frequency) for frequency in frequencies))


def _axis_frequencies(shape: Sequence[int | tf.Tensor], half: bool, border: str) -> list[tf.Tensor]:
    """|k_i| L / n_i of each axis, shaped to broadcast against the other axes."""
    longest = tf.cast(tf.reduce_max(tf.stack(list(shape))), tf.float64)
    frequencies = []
    for axis, size in enumerate(shape):
        k = tf.range(size)
        if border == "reflect":
            k = tf.cast(k, tf.float64) / 2
        else:
            k = tf.minimum(k, size - k)
            if half and axis == len(shape) - 1:
                k = k[: size // 2 + 1]
        frequency = tf.cast(k, tf.float64) * (longest / tf.cast(size, tf.float64))
        frequencies.append(
            tf.reshape(frequency, [-1 if other == axis else 1 for other in range(len(shape))])
        )
    return frequencies
