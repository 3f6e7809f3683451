"""
The values that a model takes, from its first layers or as declared, and inputs that have others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
import tensorflow as tf

from ._notices import notify

# by model, and by its first layer, which models cut out of it have too
_declared: WeakKeyDictionary[Any, tuple[float, float]] = WeakKeyDictionary()
# what a first rescaling makes of pixels, 0 to 255 or 0 to 1
_RESCALED = ((0, 1), (-1, 1), (-0.5, 0.5), (0, 255))
_WITHOUT_EFFECT = ("InputLayer", "Resizing", "CenterCrop", "Identity")


def declare_range(model: keras.Model, low: float, high: float) -> None:
    """
    Say between which values the inputs of a model are, where none of its layers tells.

    It also holds for models that are made of this one, such as
    `keras.Model(model.inputs, layer.output)`. Inputs that clearly have other values are warned of.

    Parameters
    ----------
    model
        A built Keras model.
    low, high
        The lowest and the highest value that a preprocessed image may have, about.

    Raises
    ------
    ValueError
        If `low` is not below `high`, or one is not finite.
    """
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"The range is {low} to {high}; give finite numbers, the lower one first.")
    for owner in (model, *model.layers[:1]):
        _declared[owner] = float(low), float(high)


def expected_range(model: Any) -> tuple[float, float] | None:
    """
    The lowest and highest value that a model takes.

    It is what was declared, or what a `Rescaling` layer takes that stands first, be it in a nested
    model; None where neither tells.
    """
    if not isinstance(model, keras.Layer):
        return None
    if model in _declared:
        return _declared[model]
    if isinstance(model, keras.layers.Rescaling):
        return _rescaled_range(model)
    if not isinstance(model, keras.Model):
        return None
    # the layers of other models are in the order of their attributes
    is_graph = isinstance(model, keras.Sequential) or len(getattr(model, "inputs", None) or ()) == 1
    for layer in model.layers if is_graph else ():
        name = type(layer).__name__
        if layer in _declared or not (name in _WITHOUT_EFFECT or name.startswith("Random")):
            return expected_range(layer)
    return None


def check_range(model: Any, read: Callable[[], Any]) -> None:
    """
    Warn of inputs that are clearly in another range than the model takes.

    Parameters
    ----------
    model
        The model.
    read
        Gives some inputs; it is called only where the range that the model takes is known.
    """
    expected = expected_range(model)
    if expected is None:
        return
    values = read()
    if tf.is_symbolic_tensor(values) or not len(values):
        return
    values = np.asarray(values)
    found = float(values.min()), float(values.max())
    if _is_other_range(*expected, *found):
        notify(
            f"The inputs reach from {found[0]:.4g} to {found[1]:.4g}, and the model takes values "
            f"from {expected[0]:.4g} to {expected[1]:.4g}: {_advice(expected, found)}"
        )


def _is_other_range(low: float, high: float, least: float, most: float) -> bool:
    """Whether inputs from `least` to `most` are certainly none for a model of `low` to `high`."""
    reach, found = max(-low, high), max(-least, most)
    if not found > 0:
        # black images say nothing
        return False
    if not reach / 50 < found < reach * 10:
        return True
    if low >= 0:
        return least < (low - high) / 4
    # values without a negative one had no mean subtracted: pixels of 0 to 255, or of 0 to 1
    return least >= 0 and (most > 1.1 * high or (most <= 1 and low <= -1.5))


def _advice(expected: tuple[float, float], found: tuple[float, float]) -> str:
    if found[0] >= 0 and expected == (0, 255) and found[1] <= 1:
        return "give 255 * inputs."
    if found[0] >= 0 and expected == (0, 1) and 1 < found[1] <= 255:
        return "give inputs / 255."
    return "prepare them as those were that the model was trained on."


def _rescaled_range(layer: keras.layers.Rescaling) -> tuple[float, float] | None:
    """0 to 255 or 0 to 1, if the layer makes a usual range of it."""
    if np.size(layer.scale) != 1 or np.size(layer.offset) != 1:
        return None
    scale, offset = float(np.squeeze(layer.scale)), float(np.squeeze(layer.offset))
    for high in (255.0, 1.0):
        made = offset, scale * high + offset
        usual = any(np.allclose(made, known, rtol=0.02, atol=0.02) for known in _RESCALED)
        # one that changes nothing tells nothing
        if usual and (scale, offset) != (1, 0):
            return 0.0, high
    return None
