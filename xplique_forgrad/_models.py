"""
What is asked of a model: its outputs, what kind they are, the classes it predicts, its weights.
"""

from __future__ import annotations

import zlib
from typing import Any

import keras
import numpy as np


def input_shape(model: Any) -> tuple[int | None, ...] | None:
    """Shape of the inputs that the model wants, (None, ...); None if it says none."""
    shape = getattr(model, "input_shape", None)
    return shape if isinstance(shape, tuple) else None


def check_has_inputs(model: Any) -> None:
    """Raise a ValueError if the model is a Sequential one that was given no input shape."""
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"The model {model.name!r} is not built: it has no inputs yet, and so no weights. Type "
            "model.build((None, H, W, C)) with the sizes of its images, or give it "
            "keras.Input((H, W, C)) as its first layer."
        )


def call_model(model: Any, inputs: Any) -> Any:
    """Outputs of a model at inference, whatever Xplique takes for one."""
    if isinstance(model, keras.Model):
        return model(inputs, training=False)
    return getattr(model, "predict_proba", model)(inputs)


def predicted_targets(model: Any, inputs: Any, batch_size: int | None = 64) -> np.ndarray:
    """
    The classes that a model predicts, one-hot.

    Parameters
    ----------
    model
        A Keras model, or any callable.
    inputs
        Inputs of shape (N, ...).
    batch_size
        Number of inputs at once; None for all.

    Returns
    -------
    targets
        Of shape (N, classes), float32.

    Raises
    ------
    ValueError
        If there is no model, or its outputs are not of shape (N, classes).
    """
    advice = (
        "give one-hot targets of shape (N, output_size), for instance "
        "tf.one_hot(labels, nb_classes)."
    )
    inputs = np.asarray(inputs)
    if not callable(getattr(model, "predict_proba", model)):
        raise ValueError(
            f"`targets` is None, and there is no model that predicts a class; {advice}"
        )
    if inputs.ndim < 2 or not len(inputs):
        raise ValueError(
            f"`targets` is None, and `inputs` have shape {inputs.shape}, which no model predicts "
            f"classes for; give inputs (N, ...), or {advice}"
        )
    size, parts = batch_size or len(inputs), []
    for start in range(0, len(inputs), size):
        batch = inputs[start : start + size].astype(np.float32, copy=False)
        outputs = call_model(model, batch)
        several = isinstance(outputs, (list, tuple, dict))
        if several or np.ndim(outputs) != 2:
            given = f"{len(outputs)} outputs" if several else f"outputs of shape {outputs.shape}"
            raise ValueError(
                f"`targets` is None, and the model gives {given} instead of (N, classes), which "
                f"name no predicted class; {advice}"
            )
        parts.append(np.argmax(np.asarray(outputs), axis=1))
    return np.eye(outputs.shape[1], dtype=np.float32)[np.concatenate(parts)]


def kind_of_outputs(model: Any, outputs: np.ndarray) -> str:
    """ "softmax", "sigmoid" or "logits", as the last layer says or, without one, the values."""
    activation = last_activation(model)
    if activation in ("softmax", "sigmoid"):
        return activation
    values = outputs.astype(np.float64)
    are_shares = outputs.shape[1] > 1 and bool(np.all(values > -1e-6))
    if are_shares and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        return "softmax"
    return "logits"


def are_class_logits(kind: str, outputs: np.ndarray, targets: np.ndarray) -> bool:
    """Whether outputs (N, classes) of that kind are logits of several classes, not other scores."""
    return kind == "logits" and outputs.shape[1] > 1 and bool(np.isin(targets, (0, 1)).all())


def last_activation(model: Any) -> str:
    """The name of the function that the last layer applies; empty if there is none to see."""
    last = model
    while getattr(last, "layers", None):
        last = last.layers[-1]
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    return "softmax" if type(last).__name__ == "Softmax" else activation


def share_weights(first: Any, second: Any) -> bool:
    """Whether two models are one, or have weights in common, or weights of the same values."""
    if first is second:
        return True
    own = {id(variable) for variable in getattr(first, "variables", None) or ()}
    if any(id(variable) in own for variable in getattr(second, "variables", None) or ()):
        return True
    checksums = weights_checksum(first), weights_checksum(second)
    return None not in checksums and checksums[0] == checksums[1]


def weights_checksum(model: Any) -> int | None:
    """A checksum of the model's weights; None if it has none that can be read."""
    variables = getattr(model, "variables", None)
    if not variables:
        return None
    checksum = 0
    for variable in variables:
        checksum = zlib.crc32(np.ascontiguousarray(variable.numpy()).tobytes(), checksum)
    return checksum
