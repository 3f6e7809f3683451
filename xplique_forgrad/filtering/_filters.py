"""
FORGrad: the low-pass filter for attribution maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .._checks import check_choice
from ._checks import (
    BORDERS,
    RECTIFICATIONS,
    WINDOWS,
    check_finite,
    checked_axes,
    checked_explanations,
    checked_sigma,
    warn_of_constant_maps,
    warn_of_the_default,
)
from ._transforms import (
    Plan,
    analyse,
    cached_plan,
    fourier_plan,
    narrowed,
    products_pay_off,
    rectified,
    spectrum_dtype,
    synthesise,
)

# of the filtered axes; tensors where only the graph knows them
Sizes = tuple[int | tf.Tensor, ...]


def forgrad(
    explanations: tf.Tensor | ArrayLike,
    sigma: tf.Tensor | ArrayLike = 15,
    *,
    window: str = "disk",
    rectify: str | None = "magnitude",
    axes: int | Sequence[int] = (1, 2),
    border: str = "periodic",
) -> tf.Tensor:
    r"""
    FORGrad: keep the frequencies of attribution maps below a cutoff, drop the noise above.

    $$\phi_\sigma(x) = F^{-1}(F(\phi(x)) \cdot w_\sigma),$$

    with $\phi(x)$ the map, $F$ the discrete Fourier transform along `axes` and $w_\sigma$ the
    `low_pass_mask`. With the default `rectify`, the magnitude is taken before and after. Each map,
    and each channel of it, is filtered on its own, and its mean is kept.

    With the Gaussian window it is a Gaussian blur, of the magnitudes, or with `rectify=None` of the
    maps as they are. A standard deviation of $s$ pixels is $\sigma = n / (2 \pi s)$, with $n$ the
    size of the longest filtered axis.

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
    border
        How maps go on beyond their borders. "periodic", as in Xplique: attribution beside one
        border also appears beside the opposite one. "reflect" mirrors them along each filtered
        axis, as d c b a | a b c d | d c b a (NumPy's "symmetric", SciPy's "reflect"): nothing comes
        from the opposite border. It filters the mirrored map, of twice the sizes, with twice
        `sigma`, and cuts the map out of it: so it knows half cycles too. On a CPU that takes as
        long as "periodic" for narrow bands, up to 2.5 times as long for wide ones, and 2 to 4
        times inside a `tf.function` (`python benchmarks/filter.py`).

    Returns
    -------
    explanations_filtered :
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
    explanations, axes, shape = _checked_maps(explanations, axes, window, rectify, border)
    sigma = checked_sigma(sigma, shape, nb_maps=_size(explanations, 0))
    if tf.executing_eagerly():
        warn_of_constant_maps(sigma, shape, window, border)
        warn_of_the_default(sigma, shape)
    plan = _make_plan(explanations, shape, sigma, window, border)
    return _run(explanations, (plan,), axes, rectify, border, stack=False)


def forgrad_sweep(
    explanations: tf.Tensor | ArrayLike,
    sigmas: tf.Tensor | ArrayLike,
    *,
    window: str = "disk",
    rectify: str | None = "magnitude",
    axes: int | Sequence[int] = (1, 2),
    border: str = "periodic",
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
    border
        "periodic" or "reflect", see `forgrad`.

    Returns
    -------
    explanations_filtered :
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
    explanations, axes, shape = _checked_maps(explanations, axes, window, rectify, border)
    sigmas = _checked_cutoffs(sigmas, shape)
    if tf.executing_eagerly():
        warn_of_constant_maps(sigmas, shape, window, border, name="sigmas")
    if not isinstance(sigmas, np.ndarray):
        masks, _ = fourier_plan(shape, sigmas, window, border, _compute_dtype(explanations.dtype))
        plans = tuple(Plan(mask, ()) for mask in tf.unstack(masks))
        return _run(explanations, plans, axes, rectify, border, stack=True)

    # sorted, so that the graph depends on the number of cutoffs and not on their order
    order = np.argsort(sigmas, kind="stable")
    plans = tuple(
        _make_plan(explanations, shape, float(sigma), window, border, nb_cutoffs=len(sigmas))
        for sigma in sigmas[order]
    )
    filtered = _run(explanations, plans, axes, rectify, border, stack=True)
    if np.any(np.diff(order) < 0):
        filtered = tf.gather(filtered, np.argsort(order))
    return filtered


def _checked_maps(
    explanations: tf.Tensor | ArrayLike,
    axes: int | Sequence[int],
    window: str,
    rectify: str | None,
    border: str,
) -> tuple[tf.Tensor, tuple[int, ...], Sizes]:
    """The maps as a tensor, the filtered axes and their sizes."""
    check_choice("window", window, WINDOWS)
    check_choice("rectify", rectify, RECTIFICATIONS)
    check_choice("border", border, BORDERS)
    explanations = checked_explanations(explanations)
    counted = checked_axes(axes, explanations.shape)
    return explanations, counted, tuple(_size(explanations, axis) for axis in counted)


def _checked_cutoffs(sigmas: tf.Tensor | ArrayLike, shape: Sizes) -> np.ndarray | tf.Tensor:
    """A vector of at least one cutoff, of known length."""
    checked = checked_sigma(sigmas, shape, name="sigmas")
    if isinstance(checked, float) or checked.shape in ((), (0,)):
        raise ValueError(
            "`sigmas` must be a vector of at least one cutoff, such as [5, 10, 15], each used for "
            "all maps. For one cutoff per map, call `forgrad`."
        )
    if checked.shape[0] is None:
        raise ValueError(
            "The number of `sigmas` is unknown while tracing; set it first, as in "
            "sigmas = tf.ensure_shape(sigmas, (20,))."
        )
    return checked


def _size(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    size = tensor.shape[axis]
    return tf.shape(tensor)[axis] if size is None else size


def _compute_dtype(dtype: tf.DType) -> tf.DType:
    return tf.float64 if dtype == tf.float64 else tf.float32


def _make_plan(
    explanations: tf.Tensor,
    shape: Sizes,
    sigma: float | np.ndarray | tf.Tensor,
    window: str,
    border: str,
    nb_cutoffs: int = 1,
) -> Plan:
    dtype = _compute_dtype(explanations.dtype)
    if isinstance(sigma, float) and all(isinstance(size, int) for size in shape):
        # not on a GPU, where TF32 products would lose digits, nor while tracing, where the
        # device is not known yet
        on_cpu = tf.executing_eagerly() and explanations.device.endswith("CPU:0")
        by_products = on_cpu and products_pay_off(
            shape, sigma, window, border, explanations.shape.num_elements(), nb_cutoffs
        )
        return cached_plan(shape, sigma, window, border, dtype, by_products)
    plan = fourier_plan(shape, sigma, window, border, dtype)
    if len(plan.mask.shape) > len(shape):
        # one mask per map, shared by its channels
        nb_others = len(explanations.shape) - 1 - len(shape)
        plan = Plan(plan.mask[(slice(None),) + (tf.newaxis,) * nb_others], ())
    return plan


class _Job(NamedTuple):
    """
    What a graph does, whatever the sizes of the maps and the cutoffs.

    Attributes
    ----------
    order
        The axes of the maps, the filtered ones last.
    nb_axes
        Number of filtered axes.
    rectify, border
        See `forgrad`.
    pruned
        Whether each mask goes with products, else with an FFT.
    stack
        Whether the results get an axis of their own, in front.
    """

    order: tuple[int, ...]
    nb_axes: int
    rectify: str | None
    border: str
    pruned: tuple[bool, ...]
    stack: bool


def _run(
    explanations: tf.Tensor,
    plans: tuple[Plan, ...],
    axes: tuple[int, ...],
    rectify: str | None,
    border: str,
    stack: bool,
) -> tf.Tensor:
    """The maps filtered by each plan, checked when eager; stacked if asked."""
    masks = tuple(plan.mask for plan in plans)
    # those of a narrower plan are the first of the widest one's
    bases = max((plan.bases for plan in plans), key=_nb_sinusoids)
    others = (axis for axis in range(len(explanations.shape)) if axis not in axes)
    pruned = tuple(bool(plan.bases) for plan in plans)
    job = _Job((*others, *axes), len(axes), rectify, border, pruned, stack)
    if not tf.executing_eagerly():
        return _filter_all(explanations, masks, bases, job)[0]

    masks = tuple(tf.convert_to_tensor(mask) for mask in masks)
    bases = tuple(tf.convert_to_tensor(basis) for basis in bases)
    device, dtype = explanations.device, explanations.dtype
    compiled = _compiled(device, dtype, len(masks[0].shape), len(bases), job)
    filtered, finite = compiled(explanations, *masks, *bases)
    check_finite(finite, explanations)
    return filtered


def _nb_sinusoids(bases: tuple[np.ndarray, ...]) -> int:
    return len(bases[-1]) if bases else 0


@lru_cache(maxsize=128)
def _compiled(
    device: str, dtype: tf.DType, mask_rank: int, nb_bases: int, job: _Job
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """`_filter_all` as a graph for maps of any size that live on one device."""
    compute_dtype = _compute_dtype(dtype)
    specs = [tf.TensorSpec([None] * len(job.order), dtype)]
    for by_products in job.pruned:
        mask_dtype = compute_dtype if by_products else spectrum_dtype(compute_dtype, job.border)
        specs.append(tf.TensorSpec([None] * mask_rank, mask_dtype))
    specs += [tf.TensorSpec([None, None], compute_dtype)] * nb_bases
    nb_masks = len(job.pruned)

    @tf.function(input_signature=specs)
    def filter_all(explanations, *masks_and_bases):
        masks, bases = masks_and_bases[:nb_masks], masks_and_bases[nb_masks:]
        return _filter_all(explanations, masks, bases, job)

    with tf.device(device):
        return filter_all.get_concrete_function()


def _filter_all(
    explanations: tf.Tensor, masks: tuple[tf.Tensor, ...], bases: tuple[tf.Tensor, ...], job: _Job
) -> tuple[tf.Tensor, tf.Tensor]:
    """The maps filtered by each mask, and which of them are finite."""
    maps = rectified(tf.cast(explanations, _compute_dtype(explanations.dtype)), job.rectify)
    maps = tf.transpose(maps, job.order)
    by_products = analyse(maps, bases, job.nb_axes, job.border) if any(job.pruned) else None
    by_fft = None if all(job.pruned) else analyse(maps, (), job.nb_axes, job.border)

    filtered = []
    for mask, is_pruned in zip(masks, job.pruned):
        coefficients, sinusoids = by_fft, ()
        if is_pruned and len(masks) == 1:
            coefficients, sinusoids = by_products, bases
        elif is_pruned:
            coefficients, sinusoids = narrowed(by_products, bases, tf.shape(mask), job.nb_axes)
        sizes = tf.shape(maps)[-job.nb_axes :]
        filtered.append(synthesise(coefficients * mask, sinusoids, sizes, job.nb_axes, job.border))
    spectrum = by_products if by_fft is None else by_fft
    return _as_given(filtered, explanations, job), _are_finite(maps, spectrum, job)


def _as_given(filtered: list[tf.Tensor], explanations: tf.Tensor, job: _Job) -> tf.Tensor:
    """The filtered maps with the axes in the order, and of the shape and dtype, of those given."""
    back, shape = list(np.argsort(job.order)), explanations.shape
    maps = filtered[0]
    if job.stack:
        maps, back = tf.stack(filtered), [0] + [1 + axis for axis in back]
        shape = tf.TensorShape([len(filtered)]).concatenate(shape)
    maps = tf.transpose(maps, back)
    if job.rectify == "magnitude":
        maps = tf.abs(maps)
    if maps.dtype != explanations.dtype:
        maps = tf.saturate_cast(maps, explanations.dtype)
    return tf.ensure_shape(maps, shape)


def _are_finite(maps: tf.Tensor, coefficients: tf.Tensor, job: _Job) -> tf.Tensor:
    """
    Whether each map is finite.

    The sum over a map is not finite as soon as one value is not, and bounds the transforms.
    """
    nb_values = tf.cast(tf.reduce_prod(tf.shape(maps)[-job.nb_axes :]), maps.dtype)
    if job.rectify is None:
        sums = tf.reduce_sum(tf.abs(maps), axis=list(range(-job.nb_axes, 0)))
    else:
        sums = coefficients[(Ellipsis,) + (0,) * job.nb_axes]
        by_fft = sums.dtype.is_complex
        sums = tf.math.real(sums) if by_fft else sums * tf.sqrt(nb_values)
    if job.border == "reflect":
        nb_values *= 2  # a cosine transform is an FFT of twice the length
    return tf.math.is_finite(sums * nb_values)
