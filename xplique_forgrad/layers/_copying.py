"""
Copies of functional and Sequential models, layer by layer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras.src.models.functional import Functional  # Keras exports no public name of it

from .._gradients import check_differentiable
from ._watch import check_has_layers

# gives of a layer, its path and the names taken in its model: its copy, and what follows it there
CopyLayer = Callable[[keras.Operation, str, set[str]], Sequence[keras.Operation]]


def copy_model(
    model: keras.Model, copy_layer: CopyLayer, seed: int | None = None
) -> tuple[keras.Model, list[tuple[str, keras.Operation, keras.Operation]]]:
    """A copy that is not compiled, with the path, original and copy of each of its layers."""
    check_differentiable(model)
    check_has_layers(model)
    if not _is_graph(model):
        raise ValueError(
            f"The model {model.name!r} is subclassed ({type(model).__name__}): what its `call` "
            "does is not known as layers. Build it as a functional model; or treat it as one layer "
            "that Keras copies by its get_config, as in `x = keras.Input(shape)` and "
            "`keras.Model(x, model(x))`."
        )
    known: dict[int, tuple[str, keras.Operation, Sequence[keras.Operation]]] = {}
    with _private_randomness(seed):
        copy = _copy_graph(model, copy_layer, known)
    layers = [(path, old, parts[0]) for path, old, parts in known.values()]
    copy.trainable = model.trainable
    # a model sets the flags of its layers, so these come after it; `known` holds them before it
    for path, old, new in reversed(layers):
        with _naming(path, old):
            for before, after in sublayers(old, new):
                after.trainable = before.trainable
    layers = [layer for layer in layers if not _is_graph(layer[1])]
    for _, old, new in layers:
        for before, after in zip(getattr(old, "variables", ()), getattr(new, "variables", ())):
            after.trainable = before.trainable
    return copy, layers


def _copy_graph(
    model: keras.Model, copy_layer: CopyLayer, known: dict, path: str = ""
) -> keras.Model:
    """The copy of one functional or Sequential model; `known` holds the layers copied so far."""
    names = {operation.name for operation in getattr(model, "operations", model.layers)}

    def parts_of(layer: keras.Operation) -> Sequence[keras.Operation]:
        where = f"{path}{layer.name}"
        if id(layer) not in known:
            if _is_graph(layer):
                parts: Sequence[keras.Operation] = (
                    _copy_graph(layer, copy_layer, known, f"{where}/"),
                )
            else:
                with _naming(where, layer):
                    parts = copy_layer(layer, where, names)
            known[id(layer)] = where, layer, parts
        return known[id(layer)][2]

    if isinstance(model, keras.Sequential):
        parts = [part for layer in model.layers for part in parts_of(layer)]
        return keras.Sequential([_new_input(model.inputs[0]), *parts], name=model.name)

    following: dict[int, Sequence[keras.Operation]] = {}

    def clone(layer):
        new, *rest = parts_of(layer)
        following[id(new)] = rest
        return new

    def call(layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        for part in following[id(layer)]:
            outputs = part(outputs)
        return outputs

    # without the optimizer and losses of the original, which would be copied too
    graph = keras.Model(model.input, model.output, name=model.name)
    inputs = keras.tree.map_structure(lambda tensor: _new_input(tensor).output, model.input)
    return keras.models.clone_model(graph, inputs, clone_function=clone, call_function=call)


def _is_graph(layer: keras.Operation) -> bool:
    """Whether the layer is a model that is defined by its layers alone."""
    graphs = (Functional, keras.Sequential)
    return isinstance(layer, graphs) and type(layer).call in [graph.call for graph in graphs]


def new_layer(layer: keras.Operation, config: dict[str, Any]) -> keras.Operation:
    """A new layer of the same class and name, not built."""
    if isinstance(layer, keras.layers.Lambda):  # Keras refuses to read back its own code
        given = {"function": layer.function, "mask": layer.mask, "arguments": layer.arguments}
        return type(layer)(**{**config, **given, "output_shape": layer._output_shape})
    activation = getattr(layer, "activation", None)
    # also what is called like a function, as the gradient that Xplique's GuidedBackprop puts there
    has_function = callable(activation) and not isinstance(activation, keras.layers.Layer)
    takes_functions = "activation" in config and type(layer).__module__.startswith("keras.")
    if has_function and takes_functions:
        config = {**config, "activation": activation}  # not what Keras finds by its name
    new = type(layer).from_config(config)
    new.name = layer.name  # the config that Keras makes of a subclassed model has no name
    return new


def _new_input(tensor) -> keras.layers.InputLayer:
    """A new input layer of the same name; by itself, Keras names it as its tensor."""
    layer = tensor._keras_history[0]
    return new_layer(layer, layer.get_config())


def sublayers(
    old: keras.Operation, new: keras.Operation
) -> list[tuple[keras.Operation, keras.Operation]]:
    """A layer and those that it holds, with their counterparts; of a model, itself alone."""
    if not isinstance(old, keras.layers.Layer):
        return []  # a function of keras.ops
    if _is_graph(old):
        return [(old, new)]  # its layers are copied one by one
    return list(zip(old._flatten_layers(), new._flatten_layers(), strict=True))


def carry_weights(path: str, pairs: list[tuple[keras.Operation, keras.Operation]]) -> None:
    """Give the copies the weights of their originals, and what the layers derive from these."""
    with _naming(path, pairs[0][0] if pairs else None):
        for old, new in pairs:
            store: dict[str, np.ndarray] = {}
            old.save_own_variables(store)
            new.load_own_variables(store)


@contextmanager
def _naming(path: str, layer: keras.Operation | None) -> Iterator[None]:
    """Say which layer an error of Keras is about."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"The layer {path!r} ({type(layer).__name__}) cannot be copied by its config and "
            "weights. Give its class a `get_config` with all arguments of its __init__, and "
            "register custom functions and classes by "
            f"keras.saving.register_keras_serializable. Keras says: {error}"
        ) from error


@contextmanager
def _private_randomness(seed: int | None) -> Iterator[None]:
    """
    Random generators of Python and NumPy that start from a seed, and are put back.

    Keras takes the seed of each initialiser without one from Python's generator.
    """
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    if seed is not None:
        # seeds of its own: a model is often built after keras.utils.set_random_seed(0)
        random.seed(f"copy {seed}")
        np.random.seed(random.getrandbits(32))  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
