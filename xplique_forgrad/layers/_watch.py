"""
The gradients that reach a model's layers, met one by one while the backward pass goes.

Each layer is made to hand its output through an identity whose gradient is looked at, and goes on
only then. So one pass meets every layer, and no gradient is kept once it has been looked at.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from .._gradients import Scorer
from .._models import torch_module
from .._samples import Samples
from ._layouts import Grid, Layouts

INPUT = "input"

# the same picture written otherwise, or a part of it
_REARRANGING = ("Reshape", "Permute", "Flatten")

# what users give to choose layers: names, paths, layers, one of these alone, or None for all
Layers: TypeAlias = Iterable[str | keras.Layer] | str | keras.Layer | None


@dataclass(frozen=True)
class Place:
    """
    A spatial tensor in a model: what a layer gave (side "output"), or was given (side "input").

    `grid` is (H, W), `channels` C, and `strides` how many times smaller the layer's output is than
    its input, down and across. `nb_prefix` tokens of a sequence come before those of the grid.
    """

    name: str
    kind: str
    side: str
    grid: Grid
    channels: int
    strides: tuple[int, int]
    nb_prefix: int = 0

    @property
    def stride(self) -> int:
        """The larger of the two strides."""
        return max(self.strides)

    def columns(self) -> dict[str, str | int]:
        """What the tables say of it."""
        return {
            "layer": self.name,
            "type": self.kind,
            "height": self.grid[0],
            "width": self.grid[1],
            "channels": self.channels,
            "stride": self.stride,
        }


# looks at the gradient (B, H, W, C) that reaches a place
Visitor = Callable[[Place, tf.Tensor], None]


def check_has_layers(model: object) -> None:
    """Raise a TypeError if the layers of the model are not those of Keras."""
    if torch_module(model) is not None:
        raise TypeError(
            f"The model is a {type(model).__name__}: its layers are those of PyTorch, and only "
            "layers of Keras can be looked at or copied. Build the network in Keras with the same "
            "weights for that; FORGrad, the metrics, SigmaOptimizer and taylor_residual take it "
            "as it is."
        )


def spatial_layers(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers that may be watched by their path; nested models are walked through."""
    found: dict[str, keras.Layer] = {}
    known: set[int] = set()

    def walk(owner, prefix):
        for layer in owner._flatten_layers(include_self=False, recursive=False):
            if isinstance(layer, keras.layers.InputLayer) or id(layer) in known:
                continue
            known.add(id(layer))
            path, number = f"{prefix}{layer.name}", 2
            while path in found:
                path, number = f"{prefix}{layer.name} ({number})", number + 1
            if not isinstance(layer, keras.Model):
                found[path] = layer
            # heads beside tokens look like a picture
            if "Attention" not in type(layer).__name__:
                walk(layer, f"{path}/")

    walk(model, "")
    return found


def named_layers(model: keras.Model, names: Layers) -> dict[str, keras.Layer]:
    """Those of the layers that are named, by path or unique name, or given as objects."""
    known = spatial_layers(model)
    if names is None:
        return known
    if isinstance(names, (str, keras.Layer)):
        names = [names]
    if not isinstance(names, Iterable):
        raise TypeError(f"`layers` is {names!r}; give a list of names of layers, or None for all.")
    paths = [_path_of(name, known, model) for name in names if not _is_input(name)]
    return {path: known[path] for path in paths}


def _is_input(name: str | keras.Layer) -> bool:
    return name == INPUT or isinstance(name, keras.layers.InputLayer)


def _path_of(name: str | keras.Layer, known: dict[str, keras.Layer], model: keras.Model) -> str:
    """The path of the one layer that is named, or given."""
    matches = _matching_paths(name, known)
    if len(matches) == 1:
        return matches[0]
    wanted = getattr(name, "name", name)
    close = matches or difflib.get_close_matches(str(wanted), known, n=5, cutoff=0.4)
    raise ValueError(
        f"{'No layer' if not matches else 'More than one layer'} of the model "
        f"{model.name!r} is called {wanted!r}. "
        + (f"Did you mean one of {', '.join(close)}? " if close else "")
        + "A layer of a nested model is named by its path, as 'backbone/conv1'."
    )


def _matching_paths(name: str | keras.Layer, known: dict[str, keras.Layer]) -> list[str]:
    if isinstance(name, keras.Layer):
        return [path for path, layer in known.items() if layer is name]
    exact = [path for path in known if path == name]
    return exact or [path for path in known if path.split("/")[-1] == name]


class Visits:
    """
    The backward pass of a model, in which the gradient at each wanted layer is looked at.

    From the last layer to the first, then at the input. A layer that is called twice is two places.
    On the side "input", the gradient is the one that has gone back through the layer, and no other.
    It is a graph, so that TensorFlow leaves out the gradients of the weights.

    Attributes
    ----------
    places
        The places in forward order, the input first.
    """

    def __init__(
        self,
        model: keras.Model,
        scorer: Scorer,
        samples: Samples,
        wanted: Collection[str],
        visit: Visitor,
        sides: Collection[str] = ("output",),
    ):
        self.places: list[Place] = []
        self._wanted, self._sides, self._visit = wanted, sides, visit
        self._seen: dict[int, tf.Tensor] = {}
        self._nb_images = 0
        self._error: Exception | None = None
        self._image = (int(samples.shape[0]), int(samples.shape[1]))
        self._layouts = Layouts(self._image)
        specs = [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in samples.probe]
        with _patched_calls(spatial_layers(model), self._watched):
            self._run = tf.function(self._pass, autograph=False).get_concrete_function(
                scorer, *specs
            )
        self._seen.clear()
        if not self._has_gradient:
            raise ValueError(
                f"The score of the model {model.name!r} has no gradient with respect to its inputs:"
                " some layer or the operator cannot be differentiated (argmax, rounding, NumPy)."
            )

    def __call__(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """Run the pass of one batch."""
        self._nb_images = len(inputs)
        try:
            scores = self._run(tf.constant(inputs), tf.constant(targets))
        except tf.errors.OpError:
            if self._error is not None:
                raise self._error from None
            raise
        if not np.isfinite(scores.numpy()).all():
            raise ValueError(
                "The model gives scores that are NaN or infinite. Look at its weights and inputs."
            )

    def _pass(self, scorer, inputs, targets):
        start = Place(INPUT, "Input", "output", self._image, int(inputs.shape[-1]), (1, 1))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            scores = scorer(self._looked_at(inputs, [start]), targets)
        gradient = tape.gradient(scores, inputs)
        self._has_gradient = gradient is not None
        self.places.insert(0, start)
        if gradient is None:
            return scores
        with tf.control_dependencies([gradient]):
            return tf.identity(scores)

    def _watched(self, name: str, layer: keras.Layer, call: Callable) -> Callable:
        """What takes the place of the layer's `call`."""
        nb_calls = 0

        def watched_call(*args, **kwargs):
            nonlocal nb_calls
            given = args[0] if args else None
            before: list[Place] = []
            after: list[Place] = []
            is_wanted = name in self._wanted
            if is_wanted and "input" in self._sides and tf.is_tensor(given):
                args = (self._looked_at(given, before), *args[1:])
            outputs = call(*args, **kwargs)
            # a layer that gives on what another gave is the same place
            if id(outputs) in self._seen:
                return outputs
            # of the others, only the grid: it tells how tokens are laid out
            both = self._places_of(name, layer, given, outputs)
            if not both or not is_wanted:
                return outputs
            nb_calls += 1
            suffix = f" (call {nb_calls})" if nb_calls > 1 else ""
            for place in both:
                if place.side in self._sides:
                    found = after if place.side == "output" else before
                    found.append(replace(place, name=name + suffix))
            self.places.extend([*before, *after])
            if after:
                outputs = self._looked_at(outputs, after)
                self._seen[id(outputs)] = outputs
            return outputs

        return watched_call

    def _looked_at(self, tensor: tf.Tensor, places: list[Place]) -> tf.Tensor:
        """The tensor, whose gradient goes on once it has been looked at, if it is at a place."""

        def look(gradient):
            # windows of pictures are no pictures
            if len(gradient) != self._nb_images:
                return
            try:
                self._visit(places[0], _as_pictures(places[0], gradient))
            except Exception as error:  # TensorFlow would make it one of its own
                self._error = error
                raise

        @tf.custom_gradient
        def identity(values):
            def backward(gradient):
                if not places:
                    return gradient
                with tf.control_dependencies([tf.py_function(look, [gradient], [])]):
                    return tf.identity(gradient)

            return tf.identity(values), backward

        return identity(tensor)

    def _places_of(self, name, layer, given, outputs) -> list[Place]:
        """What the layer was given and gave as places; none if it gave no picture of the images."""
        kind = type(layer).__name__
        after = self._layouts.find(outputs)
        if after is None or kind in _REARRANGING:
            return []
        if len(outputs.shape) == 4:
            self._layouts.add_picture(after.grid)
        before = self._layouts.find(given)
        strides = _strides(layer, before and before.grid, after.grid)
        places = []
        for side, tensor, found in (("input", given, before), ("output", outputs, after)):
            if found is not None:
                channels = int(tensor.shape[-1])
                places.append(
                    Place(name, kind, side, found.grid, channels, strides, found.nb_prefix)
                )
        return places


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


def _strides(layer: keras.Layer, before: Grid | None, after: Grid) -> tuple[int, int]:
    """How many times the layer downsamples, down and across."""
    kind = type(layer).__name__
    strides = getattr(layer, "strides", None)
    if isinstance(strides, (tuple, list)) and len(strides) == 2:
        return (1, 1) if "Transpose" in kind else (int(strides[0]), int(strides[1]))
    if before is None or kind.startswith("Cropping"):
        return 1, 1
    ratios = [a / b for a, b in zip(before, after)]
    return tuple(round(ratio) if ratio >= 1.5 else 1 for ratio in ratios)  # type: ignore


def _as_pictures(place: Place, gradient: tf.Tensor) -> tf.Tensor:
    """A gradient as (B, H, W, C) in float32, tokens laid out on their grid."""
    gradient = tf.cast(gradient, tf.float32)
    if len(gradient.shape) == 3:
        tokens = gradient[:, place.nb_prefix :]
        gradient = tf.reshape(tokens, (-1, *place.grid, place.channels))
    return gradient
