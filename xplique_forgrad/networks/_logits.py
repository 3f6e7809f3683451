"""
The logits of a model that ends in probabilities.
"""

from __future__ import annotations

from typing import Any

import keras

_PROBABILITIES = ("softmax", "sigmoid")


def to_logits(model: keras.Model) -> tuple[keras.Model, str | None]:
    """
    The same model without the softmax or the sigmoid at its end.

    Gradients of a softmax mix those of all classes and vanish where the model is sure. The new
    model has the layers of the old one; a last layer with the function in it is copied.

    Parameters
    ----------
    model
        Functional or Sequential Keras model with one output.

    Returns
    -------
    logits :
        The model of the logits; the model itself if it does not end in probabilities.
    removed :
        What was removed, "softmax" or "sigmoid"; None if nothing was.

    Raises
    ------
    ValueError
        If the model ends in probabilities and its layers cannot be seen, or it has several outputs.
    TypeError
        If it is no Keras model.

    Examples
    --------
    >>> inputs = keras.Input((8,))
    >>> model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(inputs))
    >>> to_logits(model)[1]
    'softmax'
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"The model is a {type(model).__name__}; give a Keras model.")
    outputs = getattr(model, "outputs", None)
    if not outputs:
        raise ValueError(
            f"The layers of {model.name!r} cannot be seen: it is a subclassed model. Where its "
            "code applies a softmax, leave it out, for instance by "
            "`model.last_layer.activation = None`, and wrap what is left: "
            "`inputs = keras.Input(shape)`, then `keras.Model(inputs, model(inputs))`."
        )
    if len(outputs) > 1:
        raise ValueError(
            f"The model has {len(outputs)} outputs; give one of one output, such as "
            "`keras.Model(model.inputs, model.outputs[0])`."
        )
    last, _, _ = history = outputs[0]._keras_history
    # what this call was given: a nested model has inputs of its own
    given = last._inbound_nodes[history.node_index].input_tensors
    removed = _probabilities(last)
    if removed is not None:
        made = _without(last, given[0])
    elif isinstance(last, keras.Model):
        inner, removed = to_logits(last)
        made = inner(*given)
    if removed is None:
        return model, None
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    return keras.Model(inputs, made, name=model.name), removed


def _probabilities(operation: Any) -> str | None:
    """ "softmax" or "sigmoid", if the operation or the layer ends in one."""
    own = type(operation).__name__.lower()
    activation = getattr(getattr(operation, "activation", None), "__name__", own)
    return activation if activation in _PROBABILITIES else None


def _without(last: Any, given: keras.KerasTensor) -> keras.KerasTensor:
    """What goes into the function at the end of the operation."""
    if not (isinstance(last, keras.layers.Layer) and last.weights):
        return given
    linear = type(last).from_config({**last.get_config(), "activation": "linear"})
    outputs = linear(given)
    linear.set_weights(last.get_weights())
    return outputs
