"""
FORGrad: the low-pass filter for attribution maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_choice
from ._checks import (
    RECTIFICATIONS,
    WINDOWS,
    check_finite,
    checked_axes,
    checked_explanations,
    checked_sigma,
)
from ._transforms import (
    Plan,
    analyse,
    cached_plan,
    complex_dtype,
    fourier_plan,
    products_pay_off,
    rectified,
    synthesise,
)


def forgrad(
    explanations: Any,
    sigma: Any = 15,
    *,
    window: str = "disk",
    rectify: str | None = "magnitude",
    axes: int | Sequence[int] = (1, 2),
) -> tf.Tensor:
    """
    FORGrad: keep the frequencies of attribution maps below a cutoff, drop the noise above.

    phi_sigma(x) = F^-1(F(phi(x)) * w_sigma), with F the discrete Fourier transform along `axes` and
    w_sigma the `low_pass_mask`. With the default `rectify`, the magnitude is taken before and
    after. Each map, and each channel of it, is filtered on its own, and its mean is kept. The
    transform is periodic: attribution beside one border also appears beside the opposite one.

    Works in eager mode, inside a `tf.function` (with unknown batch and spatial sizes too), with
    `jit_compile=True`, and where its input lives. Differentiable in `explanations`, and in a
    tensor `sigma` with the Gaussian and Butterworth windows.

    Ref. Muzellec & al., Saliency strikes back: How filtering out high frequencies improves
    white-box explanations (2024), https://arxiv.org/abs/2307.09591 (sec. 3.4).

    Parameters
    ----------
    explanations
        Attribution maps, for images of shape (N, H, W) or (N, H, W, C): an array, a tensor or
        nested lists. H and W may differ, and be odd or even. Rank 3 is always taken for (N, H, W):
        give a single map with channels as `explanations[None]`, and time series with `axes=(1,)`.
    sigma
        Cutoff in cycles along the longest filtered axis, 0 < sigma <= that axis' size; may be
        fractional. A number or scalar tensor, or one cutoff per map of shape (N,). Default to the
        paper's recommendation, 15 for images of 224 pixels: give it for any other size.
        `full_band_sigma` keeps everything.
    window
        Shape of the filter, see `low_pass_mask`: "disk" (as in Xplique), "box" (the paper's),
        "gaussian" or "butterworth" (no ringing).
    rectify
        "magnitude" takes the absolute value before and after filtering, as Xplique does.
        "positive" sets negative attributions to zero before filtering. With None the filter is
        linear and signs are kept: the paper's equation.
    axes
        Axes to filter along, at most three, not the batch axis 0. (1, 2) for images, (1,) for
        time series (N, T, C), (1, 2, 3) for volumes and videos.

    Returns
    -------
    explanations_filtered
        Filtered maps, of the shape and dtype of `explanations` (float32 for integers). Never
        modified in place.

    Raises
    ------
    ValueError
        If the rank does not fit `axes`, `sigma` is out of range, an option is unknown, or a map
        holds NaN or infinite values. Inside a `tf.function` such a map (that channel of it)
        becomes NaN, and no other does; a tensor `sigma` out of range raises
        `tf.errors.InvalidArgumentError` there, and gives NaN maps under XLA, which has no errors.
    TypeError
        If the explanations are no real numbers.

    Examples
    --------
    >>> explanations = tf.random.normal((8, 224, 224, 1))
    >>> forgrad(explanations, sigma=15).shape
    TensorShape([8, 224, 224, 1])
    """
    explanations, axes, shape = _checked_maps(explanations, axes, window, rectify)
    sigma = checked_sigma(sigma, shape, nb_maps=_size(explanations, 0))
    plan = _make_plan(explanations, shape, sigma, window)
    pruned = (bool(plan.bases),)
    return _run(explanations, (plan.mask,), plan.bases, pruned, axes, rectify, stack=False)


def forgrad_sweep(
    explanations: Any,
    sigmas: Any,
    *,
    window: str = "disk",
    rectify: str | None = "magnitude",
    axes: int | Sequence[int] = (1, 2),
) -> tf.Tensor:
    """
    Filter the same maps at many cutoffs, from one forward transform.

    Equal to stacking `forgrad(explanations, sigma)` over the cutoffs, in about half the time.

    Parameters
    ----------
    explanations
        Attribution maps, see `forgrad`.
    sigmas
        Cutoffs of shape (S,), in cycles along the longest filtered axis, in any order.
    window
        Shape of the filter, see `forgrad`.
    rectify
        "magnitude", "positive" or None, see `forgrad`.
    axes
        Axes to filter along, see `forgrad`.

    Returns
    -------
    explanations_filtered
        Filtered maps, of shape (S, *explanations.shape).

    Raises
    ------
    ValueError
        If `sigmas` is no vector, and as `forgrad` does.
    TypeError
        If the explanations or the cutoffs are no real numbers.

    Examples
    --------
    >>> explanations = tf.random.normal((8, 224, 224, 1))
    >>> forgrad_sweep(explanations, sigmas=[5, 10, 15]).shape
    TensorShape([3, 8, 224, 224, 1])
    """
    explanations, axes, shape = _checked_maps(explanations, axes, window, rectify)
    sigmas = checked_sigma(sigmas, shape, name="sigmas")
    if isinstance(sigmas, float) or sigmas.shape in ((), (0,)):
        raise ValueError(
            "`sigmas` must be a vector of at least one cutoff, such as [5, 10, 15], each used for "
            "all maps. For one cutoff per map, call `forgrad`."
        )
    if sigmas.shape[0] is None:
        raise ValueError(
            "The number of `sigmas` is unknown while tracing; set it first, as in "
            "sigmas = tf.ensure_shape(sigmas, (20,))."
        )
    order = None
    if isinstance(sigmas, np.ndarray):
        # sorted, so that the graph depends on the number of cutoffs and not on their order
        order = np.argsort(sigmas, kind="stable")
        plans = tuple(
            _make_plan(explanations, shape, float(sigma), window, nb_cutoffs=len(sigmas))
            for sigma in sigmas[order]
        )
    else:
        masks, _ = fourier_plan(shape, sigmas, window, _compute_dtype(explanations.dtype))
        plans = tuple(Plan(mask, ()) for mask in tf.unstack(masks))
    widest = max((plan.bases for plan in plans), key=_nb_sinusoids, default=())
    masks = tuple(plan.mask for plan in plans)
    pruned = tuple(bool(plan.bases) for plan in plans)
    filtered = _run(explanations, masks, widest, pruned, axes, rectify, stack=True)
    if order is not None and np.any(np.diff(order) < 0):
        filtered = tf.gather(filtered, np.argsort(order))
    return filtered


def _checked_maps(explanations, axes, window, rectify):
    check_choice("window", window, WINDOWS)
    check_choice("rectify", rectify, RECTIFICATIONS)
    explanations = checked_explanations(explanations)
    axes = checked_axes(axes, explanations.shape)
    return explanations, axes, tuple(_size(explanations, axis) for axis in axes)


def _size(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    size = tensor.shape[axis]
    return tf.shape(tensor)[axis] if size is None else size


def _compute_dtype(dtype: tf.DType) -> tf.DType:
    return tf.float64 if dtype == tf.float64 else tf.float32


def _make_plan(explanations, shape, sigma, window, nb_cutoffs=1) -> Plan:
    dtype = _compute_dtype(explanations.dtype)
    if isinstance(sigma, float) and all(isinstance(size, int) for size in shape):
        # not on a GPU, where TF32 products would lose digits, nor while tracing, where the
        # device is not known yet
        on_cpu = tf.executing_eagerly() and explanations.device.endswith("CPU:0")
        by_products = on_cpu and products_pay_off(
            shape, sigma, window, explanations.shape.num_elements(), nb_cutoffs
        )
        return cached_plan(shape, sigma, window, dtype, by_products)
    plan = fourier_plan(shape, sigma, window, dtype)
    if len(plan.mask.shape) > len(shape):
        # one mask per map, shared by its channels
        nb_others = len(explanations.shape) - 1 - len(shape)
        plan = Plan(plan.mask[(slice(None),) + (tf.newaxis,) * nb_others], ())
    return plan


def _nb_sinusoids(bases: tuple[np.ndarray, ...]) -> int:
    return len(bases[-1]) if bases else 0


def _run(explanations, masks, bases, pruned, axes, rectify, stack) -> tf.Tensor:
    """The maps filtered by each mask, checked when eager; stacked if asked."""
    rank = len(explanations.shape)
    order = (*(axis for axis in range(rank) if axis not in axes), *axes)
    options = (order, len(axes), rectify, pruned, stack)
    if not tf.executing_eagerly():
        return _filter_all(explanations, masks, bases, *options)[0]

    masks = tuple(tf.convert_to_tensor(mask) for mask in masks)
    bases = tuple(tf.convert_to_tensor(basis) for basis in bases)
    device, dtype = explanations.device, explanations.dtype
    compiled = _compiled(device, dtype, len(masks[0].shape), len(bases), *options)
    filtered, finite = compiled(explanations, *masks, *bases)
    check_finite(finite, explanations)
    return filtered


@lru_cache(maxsize=128)
def _compiled(device, dtype, mask_rank, nb_bases, order, nb_axes, rectify, pruned, stack):
    """`_filter_all` as a graph for maps of any size that live on one device."""
    compute_dtype = _compute_dtype(dtype)
    specs = [tf.TensorSpec([None] * len(order), dtype)]
    for by_products in pruned:
        mask_dtype = compute_dtype if by_products else complex_dtype(compute_dtype)
        specs.append(tf.TensorSpec([None] * mask_rank, mask_dtype))
    specs += [tf.TensorSpec([None, None], compute_dtype)] * nb_bases

    @tf.function(input_signature=specs)
    def filter_all(explanations, *masks_and_bases):
        masks, bases = masks_and_bases[: len(pruned)], masks_and_bases[len(pruned) :]
        return _filter_all(explanations, masks, bases, order, nb_axes, rectify, pruned, stack)

    with tf.device(device):
        return filter_all.get_concrete_function()


def _filter_all(explanations, masks, bases, order, nb_axes, rectify, pruned, stack):
    """The maps filtered by each mask, and which of them are finite."""
    maps = rectified(tf.cast(explanations, _compute_dtype(explanations.dtype)), rectify)
    maps = tf.transpose(maps, order)

    by_products: Any = analyse(maps, bases, nb_axes) if any(pruned) else None
    by_fft: Any = None if all(pruned) else analyse(maps, (), nb_axes)
    filtered: Any = []
    for mask, is_pruned in zip(masks, pruned):
        coefficients, sinusoids = by_fft, ()
        if is_pruned and len(masks) == 1:
            coefficients, sinusoids = by_products, bases
        elif is_pruned:
            # a narrower mask uses the first sinusoids
            nb_kept = tf.unstack(tf.shape(mask), nb_axes)
            coefficients = by_products[(Ellipsis,) + tuple(slice(nb) for nb in nb_kept)]
            sinusoids = tuple(basis[:nb] for basis, nb in zip(bases, reversed(nb_kept)))
        filtered.append(
            synthesise(coefficients * mask, sinusoids, tf.shape(maps)[-nb_axes:], nb_axes)
        )

    back = list(np.argsort(order))
    if stack:
        filtered, back = tf.stack(filtered), [0] + [1 + axis for axis in back]
    else:
        (filtered,) = filtered
    filtered = tf.transpose(filtered, back)
    if rectify == "magnitude":
        filtered = tf.abs(filtered)
    if filtered.dtype != explanations.dtype:
        filtered = tf.saturate_cast(filtered, explanations.dtype)
    shape = [len(masks)] if stack else []
    filtered = tf.ensure_shape(filtered, tf.TensorShape(shape).concatenate(explanations.shape))

    # the sum over a map is not finite as soon as one value is not, and bounds the transforms
    nb_values = tf.cast(tf.reduce_prod(tf.shape(maps)[-nb_axes:]), maps.dtype)
    if rectify is None:
        sums = tf.reduce_sum(tf.abs(maps), axis=list(range(-nb_axes, 0)))
    elif by_fft is None:
        sums = by_products[(Ellipsis,) + (0,) * nb_axes] * tf.sqrt(nb_values)
    else:
        sums = tf.math.real(by_fft[(Ellipsis,) + (0,) * nb_axes])
    return filtered, tf.math.is_finite(sums * nb_values)
