"""
Baselines by name: what removed pixels become.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

# deviation of the blur, of the size of an image: 10 pixels of 224
_BLUR = 10 / 224


def mean(inputs: np.ndarray) -> np.ndarray:
    """The mean colour of each image, of the shape of the inputs (B, ...)."""
    inputs = np.asarray(inputs)
    means = inputs.mean(axis=_spatial_axes(inputs), keepdims=True)
    return np.broadcast_to(means, inputs.shape)


def blur(inputs: np.ndarray) -> np.ndarray:
    """The inputs (B, ...) without what is finer than a twentieth of their size."""
    inputs = np.asarray(inputs)
    axes = _spatial_axes(inputs)
    return ndimage.gaussian_filter(inputs, _BLUR * max(inputs.shape[a] for a in axes), axes=axes)


def noise(inputs: np.ndarray) -> np.ndarray:
    """Uniform noise between the lowest and the highest value of each image, the same each time."""
    found = []
    for one in np.asarray(inputs):
        rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(one).data))
        found.append(rng.uniform(one.min(), one.max(), one.shape).astype(one.dtype))
    return np.stack(found)


NAMED: dict[str, float | Callable] = {"zero": 0.0, "mean": mean, "blur": blur, "noise": noise}


def named_baselines(baselines: Any) -> dict[str, Any]:
    """
    Baselines by the names of their rows: a number, a function, or those by name.

    Raises
    ------
    ValueError
        If a name is unknown or comes twice, or there is none.
    TypeError
        If one is no baseline.
    """
    if isinstance(baselines, Mapping):
        pairs = [(str(name), _baseline(value)[1]) for name, value in baselines.items()]
    elif isinstance(baselines, Sequence) and not isinstance(baselines, str):
        pairs = [_baseline(value) for value in baselines]
    else:
        pairs = [_baseline(baselines)]
    names = [name for name, _ in pairs]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"`baselines` are named {names}; give at least one, each by a name of its own, as in "
            "{'black': 0.0, 'grey': 0.5}."
        )
    return dict(pairs)


def _baseline(value: Any) -> tuple[str, Any]:
    if isinstance(value, str):
        if value not in NAMED:
            raise ValueError(
                f"`baselines` holds {value!r}; give a number, a function of inputs (B, ...), or "
                f"one of {', '.join(map(repr, NAMED))}."
            )
        return value, NAMED[value]
    if callable(value):
        return getattr(value, "__name__", type(value).__name__), value
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return ("zero" if value == 0 else f"{value:g}"), float(value)
    raise TypeError(
        f"`baselines` holds a {type(value).__name__}; give a number, a function of inputs (B, ...),"
        f" or one of {', '.join(map(repr, NAMED))}. An array goes in a function."
    )


def _spatial_axes(inputs: np.ndarray) -> tuple[int, ...]:
    return tuple(range(1, max(2, inputs.ndim - 1)))
