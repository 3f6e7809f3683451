"""
The gradients that reach a model's layers, met one by one while the backward pass goes.

Each layer is made to hand its output through an identity whose gradient is looked at. So one pass
meets every layer, and no gradient is kept once it has been looked at.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..gradients import Scorer

INPUT = "input"

# class token, distillation token, registers
_MAX_PREFIX = 5


@dataclass(frozen=True)
class Place:
    """
    A spatial tensor in a model: what a layer gave (side "output"), or was given (side "input").

    `grid` is (H, W), `channels` C, and `stride` how many times smaller the layer's output is than
    its input. `nb_prefix` tokens of a sequence come before those of the grid.
    """

    name: str
    kind: str
    side: str
    grid: tuple[int, int]
    channels: int
    stride: int
    nb_prefix: int = 0


# looks at the gradient (B, H, W, C) that reaches a place
Visitor = Callable[[Place, tf.Tensor], None]


def spatial_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers that may be watched by their path; nested models are walked through."""
    found: dict[str, keras.Layer] = {}

    def walk(owner, prefix):
        for layer in owner._flatten_layers(include_self=False, recursive=False):
            if isinstance(layer, keras.layers.InputLayer) or layer in found.values():
                continue
            path = f"{prefix}{layer.name}"
            if not isinstance(layer, keras.Model):
                found[path] = layer
            # heads beside tokens look like an image
            if "Attention" not in type(layer).__name__:
                walk(layer, f"{path}/")

    walk(model, "")
    return found


def named_layers(model: keras.Model, names: Any) -> dict[str, keras.Layer]:
    """Those of the layers that are named, by path or unique name, or given as objects."""
    known = spatial_layers(model)
    if names is None:
        return known
    if isinstance(names, (str, keras.Layer)):
        names = [names]
    if not isinstance(names, Sequence) or not names:
        raise TypeError(f"`layers` is {names!r}; give a list of names of layers, or None for all.")
    chosen = {}
    for name in names:
        if name == INPUT or isinstance(name, keras.layers.InputLayer):
            continue
        if isinstance(name, keras.Layer):
            matches = [path for path, layer in known.items() if layer is name]
        else:
            matches = [path for path in known if path == name]
            matches = matches or [path for path in known if path.split("/")[-1] == name]
        if len(matches) != 1:
            wanted = getattr(name, "name", name)
            close = matches or difflib.get_close_matches(str(wanted), known, n=5, cutoff=0.4)
            raise ValueError(
                f"{'No layer' if not matches else 'More than one layer'} of the model "
                f"{model.name!r} is called {wanted!r}. "
                + (f"Did you mean one of {', '.join(close)}? " if close else "")
                + "A layer of a nested model is named by its path, as 'backbone/conv1'."
            )
        chosen[matches[0]] = known[matches[0]]
    return chosen


def visit_gradients(
    model: keras.Model,
    scorer: Scorer,
    inputs: np.ndarray,
    targets: np.ndarray,
    wanted: Collection[str],
    visit: Visitor,
    *,
    sides: Collection[str] = ("output",),
) -> list[Place]:
    """
    Visit the gradient of the score at each wanted layer, from the last to the first, then at the
    input.

    Gives the places in forward order. A layer that is called twice is two places. On the side
    "input", the gradient is the one that has gone back through the layer, and no other.
    """
    places: list[Place] = []
    grids: list[tuple[int, int]] = []
    seen: dict[int, Any] = {}

    def watched(name, layer, call):
        nb_calls = 0

        def watched_call(*args, **kwargs):
            nonlocal nb_calls
            given = args[0] if args else None
            found: dict[str, Place] = {}

            def look(side):
                return lambda gradient: _show(found.get(side), gradient, visit)

            if name in wanted and "input" in sides and tf.is_tensor(given):
                args = (_watch(given, look("input")), *args[1:])
            outputs = call(*args, **kwargs)
            # a layer that gives on what another gave is the same place
            if id(outputs) in seen:
                return outputs
            # of the others, only the grid: it tells how tokens are laid out
            both = _places(name, layer, given, outputs, len(inputs), grids)
            if not both or name not in wanted:
                return outputs
            nb_calls += 1
            for place in both:
                if place.side in sides:
                    suffix = f" (call {nb_calls})" if nb_calls > 1 else ""
                    found[place.side] = replace(place, name=name + suffix)
            places.extend(found.values())
            if "output" in sides:
                outputs = _watch(outputs, look("output"))
                seen[id(outputs)] = outputs
            return outputs

        return watched_call

    x = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape, _patched_calls(spatial_layers(model), watched):
        tape.watch(x)
        score = tf.reduce_sum(scorer(x, tf.convert_to_tensor(targets)))
    seen.clear()
    gradient = tape.gradient(score, x)
    if gradient is None:
        raise ValueError(
            f"The score of the model {model.name!r} has no gradient with respect to its inputs: "
            "some layer or the operator cannot be differentiated (argmax, rounding, NumPy)."
        )
    start = Place(INPUT, "Input", "output", tuple(x.shape[1:3]), int(x.shape[-1]), 1)
    _show(start, gradient, visit)
    return [start, *places]


def _watch(tensor: tf.Tensor, look: Callable[[tf.Tensor], None]) -> tf.Tensor:
    """The tensor, whose gradient is looked at when it is known."""

    @tf.custom_gradient
    def identity(values):
        def backward(gradient):
            look(gradient)
            return gradient

        return tf.identity(values), backward

    return identity(tensor)


@contextmanager
def _patched_calls(layers: dict[str, keras.Layer], make: Callable) -> Iterator[None]:
    """Each layer's `call` replaced on the instance, and put back."""
    undo = []
    try:
        for name, layer in layers.items():
            undo.append((layer, layer.__dict__.get("call")))
            object.__setattr__(layer, "call", make(name, layer, layer.call))
        yield
    finally:
        for layer, own_call in reversed(undo):
            if own_call is None:
                object.__delattr__(layer, "call")
            else:
                object.__setattr__(layer, "call", own_call)


def _places(name, layer, given, outputs, nb_images, grids) -> list[Place]:
    """What the layer was given and gave as places; none if it gave no picture of the images."""
    after = _grid(outputs, nb_images, grids)
    if after is None:
        return []
    if len(outputs.shape) == 4:
        grids.append(after[0])
    before = _grid(given, nb_images, grids)
    stride = 1
    strides = getattr(layer, "strides", None)
    if isinstance(strides, (tuple, list)) and "Transpose" not in type(layer).__name__:
        stride = int(max(strides))
    elif before is not None:
        ratio = max(a / b for a, b in zip(before[0], after[0]))
        stride = round(ratio) if ratio >= 1.5 else 1
    places = []
    for side, tensor, found in (("input", given, before), ("output", outputs, after)):
        if found is not None:
            grid, nb_prefix = found
            channels = int(tensor.shape[-1])
            kind = type(layer).__name__
            places.append(Place(name, kind, side, grid, channels, stride, nb_prefix))
    return places


def _grid(tensor, nb_images, grids) -> tuple[tuple[int, int], int] | None:
    """Height and width of a picture or of a sequence of tokens, and the tokens before them."""
    shape = getattr(tensor, "shape", None)
    if shape is None or len(shape) not in (3, 4) or shape[0] != nb_images:
        return None
    if not tf.as_dtype(tensor.dtype).is_floating:
        return None
    if len(shape) == 4:
        height, width = shape[1:3]
        return ((height, width), 0) if min(height, width) > 1 else None
    for nb_prefix in range(_MAX_PREFIX + 1):
        nb_tokens = shape[1] - nb_prefix
        known = next((grid for grid in grids[::-1] if grid[0] * grid[1] == nb_tokens), None)
        if known:
            return known, nb_prefix
    for nb_prefix in range(_MAX_PREFIX + 1):
        side = int(np.sqrt(max(shape[1] - nb_prefix, 0)))
        if side > 1 and side**2 == shape[1] - nb_prefix:
            return (side, side), nb_prefix
    return None


def _show(place: Place | None, gradient: tf.Tensor, visit: Visitor) -> None:
    """Visit a gradient as (B, H, W, C) in float32, tokens laid out on their grid."""
    if place is None:
        return
    gradient = tf.cast(gradient, tf.float32)
    if len(gradient.shape) == 3:
        tokens = gradient[:, place.nb_prefix :]
        gradient = tf.reshape(tokens, (-1, *place.grid, place.channels))
    visit(place, gradient)
