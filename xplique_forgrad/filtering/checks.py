"""
What the filter accepts, and what it says about anything else.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

WINDOWS = ("disk", "box", "gaussian", "butterworth")
RECTIFICATIONS = ("magnitude", "positive", None)

_FLOATS = (tf.float32, tf.float64, tf.float16, tf.bfloat16)
_LAYOUTS = (
    "Images are (N, H, W) or (N, H, W, C), a single map explanations[None]; time series (N, T, C) "
    "go with axes=(1,), volumes and videos (N, D, H, W) or (N, D, H, W, C) with axes=(1, 2, 3). "
    "Tabular explanations (N, W) have no order to filter along."
)


def check_choice(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise a ValueError unless the option is one of those allowed."""
    if not any(value is choice or value == choice for choice in allowed):
        raise ValueError(
            f"`{name}` is {value!r}; it must be one of {', '.join(map(repr, allowed))}."
        )


def checked_shape(shape: Sequence[int | tf.Tensor]) -> tuple[int | tf.Tensor, ...]:
    """The sizes of the filtered axes as a tuple, each an integer of at least 1 or a tensor."""
    if isinstance(shape, (str, bytes, numbers.Number)) or not hasattr(shape, "__iter__"):
        raise TypeError(f"`shape` is {shape!r}; give the sizes of the filtered axes, as (H, W).")
    sizes = tuple(shape)
    if not 1 <= len(sizes) <= 3:
        raise ValueError(f"`shape` is {sizes}; give the sizes of one to three axes, as (H, W).")
    for size in sizes:
        if isinstance(size, numbers.Integral):
            if size < 1:
                raise ValueError(f"`shape` is {sizes}; each size must be at least 1.")
        elif not tf.is_tensor(size):
            raise TypeError(f"`shape` is {sizes}; each size must be an integer.")
    return tuple(size if tf.is_tensor(size) else int(size) for size in sizes)


def checked_explanations(explanations: Any) -> tf.Tensor:
    """The explanations as a floating tensor; integers become float32."""
    if isinstance(explanations, tf.RaggedTensor):
        raise ValueError(
            f"The explanations are a ragged tensor of shape {explanations.shape}; maps of several "
            "sizes have no common unit of sigma. Filter the maps of each size in a call of their "
            "own, or resize them first."
        )
    if isinstance(explanations, (tf.data.Dataset, tf.SparseTensor)):
        raise TypeError(
            f"The explanations are a {type(explanations).__name__}; give an array or a dense "
            "tensor (filter a dataset with dataset.map(lambda maps: forgrad(maps, sigma)))."
        )
    if not tf.is_tensor(explanations) and not isinstance(explanations, np.ndarray):
        try:
            explanations = tf.convert_to_tensor(explanations)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"The explanations, of type {type(explanations).__name__}, are no array of "
                "numbers: nested lists must have one size per axis (filter maps of each size in a "
                f"call of their own). TensorFlow says: {error}"
            ) from error

    dtype = explanations.dtype
    try:
        dtype = tf.as_dtype(dtype)
    except TypeError:
        dtype = None
    if dtype is None or not (dtype in _FLOATS or dtype.is_integer or dtype.is_bool):
        raise TypeError(
            f"The explanations have dtype {explanations.dtype}; give real numbers (float16, "
            "bfloat16, float32, float64, or integers, which become float32)."
        )
    explanations = tf.convert_to_tensor(explanations)
    return explanations if dtype in _FLOATS else tf.cast(explanations, tf.float32)


def checked_axes(axes: int | Sequence[int], shape: tf.TensorShape) -> tuple[int, ...]:
    """The filtered axes in increasing order, counted from the front."""
    if shape.rank is None:
        raise ValueError(
            "The rank of the explanations is unknown while tracing; set it first, as in "
            "explanations = tf.ensure_shape(explanations, (None, None, None, 1))."
        )
    given: list[Any] = list(axes) if hasattr(axes, "__iter__") else [axes]
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
    if not 1 <= len(counted) <= 3 or len(set(counted)) < len(counted):
        raise ValueError(f"`axes` is {axes}; give one to three different axes, such as (1, 2).")
    if shape.rank > 4 and counted == (1, 2):
        raise ValueError(
            f"The explanations have shape {shape} of rank {shape.rank}, and `axes` = {axes} is for "
            "images of at most one channel axis. For videos (N, T, H, W, C) filter space with "
            "axes=(2, 3), or time and space with axes=(1, 2, 3)."
        )
    if any(shape[axis] == 0 for axis in counted):
        raise ValueError(
            f"The explanations have shape {shape}: nothing to filter along `axes` = {axes}."
        )
    return counted


def checked_sigma(
    sigma: Any,
    shape: Sequence[int | tf.Tensor],
    name: str = "sigma",
    nb_maps: int | tf.Tensor | None = None,
) -> float | np.ndarray | tf.Tensor:
    """The cutoff(s) as a float, a vector or a tensor, within 0 < sigma <= max(shape)."""
    if type(sigma) in (int, float):
        if all(isinstance(size, int) for size in shape) and 0 < sigma <= max(shape):
            return float(sigma)
        values: Any = np.asarray(float(sigma))
    elif tf.is_tensor(sigma):
        if not (sigma.dtype.is_floating or sigma.dtype.is_integer):
            raise TypeError(f"`{name}` has dtype {sigma.dtype}; give real numbers.")
        sigma = tf.cast(sigma, tf.float64)
        values = sigma.numpy() if hasattr(sigma, "numpy") else None
    else:
        try:
            values = np.asarray(sigma)
        except ValueError:
            values = np.asarray(None)
        if values.dtype.kind not in "iuf":
            raise TypeError(f"`{name}` is {sigma!r}; give a real number, or a vector of them.")
        values = values.astype(np.float64)

    rank = sigma.shape.rank if values is None else values.ndim
    length = (sigma.shape[0] if values is None else len(values)) if rank == 1 else None
    known = isinstance(nb_maps, int) and length is not None
    if rank is None or rank > 1 or (known and length != nb_maps):
        given = sigma.shape if values is None else values.shape
        expected = f"of shape ({nb_maps},)" if isinstance(nb_maps, int) else "of any length"
        raise ValueError(
            f"`{name}` has shape {given}; give one number, or a vector {expected}, one per map."
        )
    if rank == 1 and nb_maps is not None and not known:
        nb_sigmas = tf.size(sigma)
        message = f"`{name}` must be one number, or a vector of one cutoff per map."
        tf.debugging.Assert(nb_sigmas == nb_maps, [message, nb_sigmas, nb_maps])

    if values is None or not all(isinstance(size, int) for size in shape):
        longest = tf.cast(tf.reduce_max(tf.stack(list(shape))), tf.float64)
        sigma = tf.convert_to_tensor(sigma if values is None else values, tf.float64)
        in_range = tf.reduce_all((sigma > 0) & (sigma <= longest))
        message = f"`{name}` must lie in 0 < {name} <= the size of the longest filtered axis."
        tf.debugging.Assert(in_range, [message, sigma, longest])
        if values is None:
            return sigma

    if all(isinstance(size, int) for size in shape):
        bad = ~((values > 0) & (values <= max(shape)))
        if np.any(bad):
            where = f" at position {int(np.argmax(bad))}" if values.ndim else ""
            raise ValueError(
                f"`{name}` is {values.flat[np.argmax(bad)]:g}{where}; it must lie in "
                f"0 < {name} <= {max(shape)}, the size of the longest filtered axis of maps of "
                f"{' x '.join(map(str, shape))}, in cycles along that axis."
            )
    if tf.is_tensor(sigma):
        return sigma
    return float(values) if values.ndim == 0 else values


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
