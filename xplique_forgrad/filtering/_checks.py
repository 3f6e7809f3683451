"""
What the filter accepts, and what it says about anything else.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from .._notices import notify

WINDOWS = ("disk", "box", "gaussian", "butterworth")
RECTIFICATIONS = ("magnitude", "positive", None)
BORDERS = ("periodic", "reflect")
# filtered axes by the rank of inputs: the time of series (N, T, W), both sides of images
DEFAULT_AXES = {3: (1,), 4: (1, 2)}
DEFAULT_SIGMA = 15

_FLOATS = (tf.float32, tf.float64, tf.float16, tf.bfloat16)
_SMALL = 64  # pixels, below which the default cutoff keeps much more than it is meant to
_LAYOUTS = (
    "Images are (N, H, W) or (N, H, W, C), a single map explanations[None]; time series (N, T, C) "
    "go with axes=(1,), volumes and videos (N, D, H, W) or (N, D, H, W, C) with axes=(1, 2, 3). "
    "Tabular explanations (N, W) have no order to filter along."
)


def checked_shape(shape: Sequence[int | tf.Tensor] | tf.Tensor) -> tuple[int | tf.Tensor, ...]:
    """The sizes of the filtered axes as a tuple, each an integer of at least 1 or a tensor."""
    sizes = _listed_sizes(shape)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"`shape` is {sizes}; give the sizes of one to three axes, as (H, W).")
    for size in sizes:
        if isinstance(size, numbers.Integral):
            if size < 1:
                raise ValueError(f"`shape` is {sizes}; each size must be at least 1.")
        elif not (tf.is_tensor(size) and size.dtype.is_integer):
            raise TypeError(f"`shape` is {sizes}; each size must be an integer.")
    return tuple(tf.cast(size, tf.int32) if tf.is_tensor(size) else int(size) for size in sizes)


def _listed_sizes(shape: Sequence[int | tf.Tensor] | tf.Tensor) -> tuple[Any, ...]:
    try:
        sizes: tuple[Any, ...] = tuple(tf.unstack(shape)) if tf.is_tensor(shape) else tuple(shape)
    except (TypeError, ValueError):
        sizes = ("not a sequence",)
    if any(isinstance(size, str) for size in sizes):
        given = repr(shape) if len(repr(shape)) < 80 else f"a {type(shape).__name__}"
        raise TypeError(f"`shape` is {given}; give the sizes of the filtered axes, as (H, W).")
    return sizes


def checked_explanations(explanations: tf.Tensor | ArrayLike) -> tf.Tensor:
    """The explanations as a floating tensor; integers become float32."""
    _refuse_other_collections(explanations)
    maps: tf.Tensor = explanations
    if not tf.is_tensor(maps) and not isinstance(maps, np.ndarray):
        maps = _tensor_of_lists(maps)
    dtype = _real_dtype(maps.dtype)
    maps = tf.convert_to_tensor(maps)
    return maps if dtype in _FLOATS else tf.cast(maps, tf.float32)


def _refuse_other_collections(explanations: object) -> None:
    if isinstance(explanations, tf.RaggedTensor):
        raise ValueError(
            f"The explanations are a ragged tensor of shape {explanations.shape}; maps of several "
            "sizes have no common unit of sigma. Filter the maps of each size in a call of their "
            "own, or resize them first."
        )
    if isinstance(explanations, np.ma.MaskedArray):
        raise TypeError(
            "The explanations are a masked array; say what stands for the masked values, as in "
            "explanations.filled(0)."
        )
    if isinstance(explanations, (tf.data.Dataset, tf.SparseTensor)):
        raise TypeError(
            f"The explanations are a {type(explanations).__name__}; give an array or a dense "
            "tensor (filter a dataset with dataset.map(lambda maps: forgrad(maps, sigma)))."
        )


def _tensor_of_lists(explanations: object) -> tf.Tensor:
    try:
        return tf.convert_to_tensor(explanations)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The explanations, of type {type(explanations).__name__}, are no array of "
            "numbers: nested lists must have one size per axis (filter maps of each size in a "
            f"call of their own). TensorFlow says: {error}"
        ) from error


def _real_dtype(given: np.dtype | tf.DType) -> tf.DType:
    try:
        dtype = tf.as_dtype(given)
    except TypeError:
        dtype = None
    if dtype is None or not (dtype in _FLOATS or dtype.is_integer or dtype.is_bool):
        raise TypeError(
            f"The explanations have dtype {given}; give real numbers (float16, "
            "bfloat16, float32, float64, or integers, which become float32)."
        )
    return dtype


def checked_axes(axes: int | Sequence[int], shape: tf.TensorShape) -> tuple[int, ...]:
    """The filtered axes in increasing order, counted from the front."""
    if shape.rank is None:
        raise ValueError(
            "The rank of the explanations is unknown while tracing; set it first, as in "
            "explanations = tf.ensure_shape(explanations, (None, None, None, 1))."
        )
    counted = _counted_axes(axes, shape)
    if not 1 <= len(counted) <= 3 or len(set(counted)) < len(counted):
        raise ValueError(f"`axes` is {axes}; give one to three different axes, such as (1, 2).")
    if counted == (1, 2):
        _check_images(axes, shape)
    if any(shape[axis] == 0 for axis in counted):
        raise ValueError(
            f"The explanations have shape {shape}: nothing to filter along `axes` = {axes}."
        )
    return counted


def _counted_axes(axes: int | Sequence[int], shape: tf.TensorShape) -> tuple[int, ...]:
    """The axes within the rank, the batch axis not among them, from the front and in order."""
    given = list(np.atleast_1d(axes))
    if not all(isinstance(axis, numbers.Integral) for axis in given):
        raise TypeError(f"`axes` is {axes!r}; give integers such as (1, 2).")
    if any(not -shape.rank <= axis < shape.rank for axis in given):
        raise ValueError(
            f"The explanations have shape {shape} of rank {shape.rank}, and `axes` = {axes} reach "
            f"beyond it. {_LAYOUTS}"
        )
    counted = tuple(sorted(int(axis) % shape.rank for axis in given))
    if 0 in counted:
        raise ValueError(
            f"`axes` = {axes} holds the batch axis of explanations of shape {shape}: maps are "
            f"filtered one by one. {_LAYOUTS}"
        )
    return counted


def _check_images(axes: int | Sequence[int], shape: tf.TensorShape) -> None:
    """Refuse videos that are filtered as images; warn of one map taken for several of width 1."""
    if shape.rank > 4:
        raise ValueError(
            f"The explanations have shape {shape} of rank {shape.rank}, and `axes` = {axes} is for "
            "images of at most one channel axis. For videos (N, T, H, W, C) filter space with "
            "axes=(2, 3), or time and space with axes=(1, 2, 3)."
        )
    if shape.rank == 3 and shape[2] == 1 and (shape[0] or 0) > 1:
        notify(
            f"Explanations of shape {shape} are filtered as {shape[0]} maps of width 1. If they "
            "are one map with a channel axis, give explanations[None]."
        )


def checked_sigma(
    sigma: tf.Tensor | ArrayLike,
    shape: Sequence[int | tf.Tensor],
    name: str = "sigma",
    nb_maps: int | tf.Tensor | None = None,
) -> float | np.ndarray | tf.Tensor:
    """The cutoff(s) as a float, a vector or a tensor, within 0 < sigma <= max(shape)."""
    is_static = all(isinstance(size, int) for size in shape)
    if (type(sigma) is int or type(sigma) is float) and is_static and 0 < sigma <= max(shape):
        return float(sigma)  # the usual case, at once
    sigma, values = _sigma_values(sigma, name)
    _check_sigma_shape(sigma.shape if values is None else values.shape, name, nb_maps)
    if values is None or not is_static:
        cutoffs = tf.convert_to_tensor(sigma if values is None else values, tf.float64)
        return _asserted_sigma(cutoffs, shape, name, nb_maps)
    _check_sigma_range(values, shape, name)
    if tf.is_tensor(sigma):
        return sigma
    return float(values) if values.ndim == 0 else values


def _sigma_values(sigma: Any, name: str) -> tuple[Any, np.ndarray | None]:
    """The cutoff(s) as a float64 tensor or anything else, and their values unless symbolic."""
    if isinstance(sigma, (list, tuple)) and any(tf.is_tensor(value) for value in sigma):
        sigma = tf.stack([tf.cast(value, tf.float64) for value in sigma])
    if not tf.is_tensor(sigma):
        return sigma, _real_numbers(sigma, name)
    sigma = tf.convert_to_tensor(sigma)
    if not (sigma.dtype.is_floating or sigma.dtype.is_integer):
        raise TypeError(f"`{name}` has dtype {sigma.dtype}; give real numbers.")
    sigma = tf.cast(sigma, tf.float64)
    return sigma, (sigma.numpy() if hasattr(sigma, "numpy") else None)


def _real_numbers(sigma: Any, name: str) -> np.ndarray:
    try:
        values = np.asarray(np.inf if type(sigma) is int and sigma.bit_length() > 64 else sigma)
    except ValueError:
        values = np.asarray(None)
    if values.dtype.kind not in "iuf":
        raise TypeError(f"`{name}` is {sigma!r}; give a real number, or a vector of them.")
    return values.astype(np.float64)


def _check_sigma_shape(
    given: tuple[int, ...] | tf.TensorShape, name: str, nb_maps: int | tf.Tensor | None
) -> None:
    """Raise a ValueError unless it is that of a number, or of a vector with one for each map."""
    # the shape of a symbolic tensor may have no length
    rank = given.rank if isinstance(given, tf.TensorShape) else len(given)
    length = given[0] if rank == 1 else None
    is_other = isinstance(nb_maps, int) and length is not None and length != nb_maps
    if rank in (0, 1) and not is_other:
        return
    if name != "sigma":
        raise ValueError(
            f"`{name}` has shape {given}; give a vector of cutoffs, such as [5, 10, 15]."
        )
    expected = f"of shape ({nb_maps},)" if isinstance(nb_maps, int) else "of any length"
    raise ValueError(
        f"`{name}` has shape {given}; give one number, or a vector {expected}, one per map."
    )


def _check_sigma_range(values: np.ndarray, shape: Sequence[int], name: str) -> None:
    in_range = (values > 0) & (values <= max(shape))
    if np.all(in_range):
        return
    worst = int(np.argmin(in_range))
    where = f" at position {worst}" if values.ndim else ""
    raise ValueError(
        f"`{name}` is {values.flat[worst]:g}{where}; it must lie in "
        f"0 < {name} <= {max(shape)}, the size of the longest filtered axis of maps of "
        f"{' x '.join(map(str, shape))}, in cycles along that axis."
    )


def _asserted_sigma(
    sigma: tf.Tensor, shape: Sequence[int | tf.Tensor], name: str, nb_maps: int | tf.Tensor | None
) -> tf.Tensor:
    """Cutoffs known only when the graph runs: an error then, or under XLA, which has none, NaN."""
    is_vector = sigma.shape.rank == 1
    is_known = isinstance(nb_maps, int) and is_vector and sigma.shape[0] is not None
    if is_vector and nb_maps is not None and not is_known:
        message = f"`{name}` must be one number, or a vector of one cutoff per map."
        tf.debugging.Assert(tf.size(sigma) == nb_maps, [message, tf.size(sigma), nb_maps])
        sigma = tf.reshape(sigma, [nb_maps])
    longest = tf.cast(tf.reduce_max(tf.stack(list(shape))), tf.float64)
    in_range = (sigma > 0) & (sigma <= longest)
    message = f"`{name}` must lie in 0 < {name} <= the size of the longest filtered axis."
    tf.debugging.Assert(tf.reduce_all(in_range), [message, sigma, longest])
    return tf.where(in_range, sigma, tf.constant(np.nan, tf.float64))


def warn_of_constant_maps(
    sigma: float | np.ndarray | tf.Tensor,
    sizes: Sequence[int],
    window: str,
    border: str,
    name: str = "sigma",
) -> None:
    """Warn of checked cutoffs at which a window keeps nothing but the mean."""
    lowest = sigma if isinstance(sigma, float) else np.min(np.asarray(sigma), initial=np.inf)
    first = 0.5 if border == "reflect" else 1  # the lowest frequency above zero
    if lowest < first and max(sizes) > 1 and window in ("disk", "box"):
        notify(
            f"`{name}` is {lowest:g}; below {first}, a {window} keeps nothing but the mean: the "
            f"filtered map is constant. Give {name} of {first} or more, or window='gaussian', "
            "which cuts softly."
        )


def warn_of_the_default(sigma: float | np.ndarray | tf.Tensor, sizes: Sequence[int]) -> None:
    """Warn of the default cutoff on maps that are much smaller than those that it is meant for."""
    longest = max(sizes)
    if isinstance(sigma, float) and sigma == DEFAULT_SIGMA and longest < _SMALL:
        notify(
            f"`sigma` is {DEFAULT_SIGMA}, which the paper recommends for images of 224 pixels: on "
            f"maps of {' x '.join(map(str, sizes))} it keeps far more. The same share is "
            f"sigma={DEFAULT_SIGMA * longest / 224:.2g} here; SigmaOptimizer finds the best one."
        )


def check_finite(finite: tf.Tensor, explanations: tf.Tensor) -> None:
    """Raise a ValueError that names the first map with values that no filter can take."""
    flags = finite.numpy()
    if flags.all():
        return
    index = int(np.argmin(flags.reshape(len(flags), -1).all(axis=1)))
    values = tf.cast(explanations[index], tf.float64).numpy()
    nb_bad = int(np.sum(~np.isfinite(values)))
    if nb_bad:
        raise ValueError(
            f"Map {index} of the explanations holds {nb_bad} NaN or infinite values of "
            f"{values.size}. Look at the model's outputs and gradients for that input, or drop it; "
            "np.nan_to_num(explanations) sets NaN to 0 if that is what you mean."
        )
    raise ValueError(
        f"Map {index} of the explanations overflows {explanations.dtype.name} when it is summed "
        f"(largest magnitude {np.max(np.abs(values)):.3g}). Divide the explanations by a constant "
        "first: it does not change what is kept."
    )
