"""
What is asked of a model: its outputs, what kind they are, the classes it predicts, its weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from xplique.wrappers import TorchWrapper

from ._checks import batch_shape

# layers and operations behind which channels may be elsewhere
_REARRANGING = ("Permute", "Transpose", "Reshape", "Moveaxis", "Swapaxes")

# what to give where outputs of so many axes look like those of a detector or a segmenter
_TARGETS_OF_TASKS = {
    3: "of a detector give the boxes to explain, (N, boxes, 4 + 1 + classes), with "
    "operator='object detection'.",
    4: "of a segmenter give the zones to explain, masks (N, H, W, classes), with "
    "operator='semantic segmentation'.",
}


def input_shape(model: Any) -> tuple[int | None, ...] | None:
    """Shape of the inputs that the model wants, (None, ...); None if it says none."""
    shape = getattr(model, "input_shape", None)
    return shape if isinstance(shape, tuple) else None


def torch_module(model: Any) -> Any:
    """The network of PyTorch in a `TorchWrapper` of Xplique; None for any other model."""
    return model.model if isinstance(model, TorchWrapper) else None


def output_shape(model: Any) -> Any:
    """Shape of the model's outputs, (None, ...), of several a list; None if it says none."""
    return getattr(model, "output_shape", None)


def check_is_wrapped(model: Any) -> None:
    """Raise a TypeError if the model is a module of PyTorch itself."""
    if any(kind.__module__ == "torch.nn.modules.module" for kind in type(model).__mro__):
        raise TypeError(
            f"The model is a {type(model).__name__} of PyTorch, which takes no arrays; wrap it: "
            "xplique.wrappers.TorchWrapper(model.eval(), device='cpu', is_channel_first=True) "
            "takes images (N, H, W, C)."
        )


def check_has_inputs(model: Any) -> None:
    """Raise a ValueError if the model is a Sequential one that was given no input shape."""
    check_is_wrapped(model)
    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(
            f"The model {model.name!r} is not built: it has no inputs yet, and so no weights. Type "
            "model.build((None, H, W, C)) with the sizes of its images, or give it "
            "keras.Input((H, W, C)) as its first layer."
        )


def check_input(model: Any) -> None:
    """Raise as `check_has_inputs`, and unless a model of Keras takes one input, channels last."""
    check_has_inputs(model)
    if not isinstance(model, keras.Model):
        return
    nb_inputs = len(getattr(model, "inputs", None) or [None])
    if nb_inputs != 1:
        raise ValueError(
            f"The model {model.name!r} has {nb_inputs} inputs; give a model of images alone. To "
            "hold a second input (N, K) constant: image = model.inputs[0]; keras.Model(image, "
            "model([image, keras.ops.zeros_like(image[:, 0, 0, :1]) + constant]))."
        )
    shape = input_shape(model)
    if shape is not None and len(shape) > 2 and _data_format(model) == "channels_first":
        _, nb_channels, *sizes = shape
        last = len(shape) - 1
        raise ValueError(
            f"The model {model.name!r} takes its channels first, "
            f"{batch_shape(shape[1:])}; explanations "
            "and metrics have them last. Give inputs with channels last, and image = keras.Input("
            f"{(*sizes, nb_channels)}); keras.Model(image, model(keras.layers.Permute("
            f"{(last, *range(1, last))})(image)))."
        )


def check_one_output(model: Any) -> None:
    """Raise a ValueError if the model has several outputs, of which none is chosen."""
    nb_outputs = len(getattr(model, "outputs", None) or [None])
    if nb_outputs != 1:
        raise ValueError(
            f"The model {model.name!r} has {nb_outputs} outputs; say what to explain by an "
            "operator, such as operator=lambda model, x, y: tf.reduce_sum(model(x)[0] * y, -1), or "
            "give keras.Model(model.input, model.outputs[0])."
        )


def _data_format(model: keras.Layer) -> str | None:
    """Where the first layer that says it has its channels; None if they are rearranged before."""
    parts: Any = getattr(model, "operations", None) or getattr(model, "layers", ())
    for layer in parts:
        if type(layer).__name__ in _REARRANGING:
            return None
        found = getattr(layer, "data_format", None) or _data_format(layer)
        if found:
            return found
    return None


def call_model(model: Any, inputs: Any) -> Any:
    """Outputs of a model at inference, whatever Xplique takes for one."""
    if isinstance(model, keras.Model):
        return model(inputs, training=False)
    return getattr(model, "predict_proba", model)(inputs)


def other_precision(model: Any) -> str | None:
    """The dtype of the model's outputs if that is float16, bfloat16 or float64; else None."""
    outputs = getattr(model, "outputs", None) if isinstance(model, keras.Model) else None
    for output in outputs or ():
        dtype = keras.backend.standardize_dtype(output.dtype)
        if dtype in ("float16", "bfloat16", "float64"):
            return dtype
    return None


def in_float32(model: Any) -> Callable[[Any], Any]:
    """The model as a function whose outputs are float32, which multiply with targets."""

    def call(inputs: Any) -> Any:
        outputs = model(inputs)
        return keras.tree.map_structure(lambda part: keras.ops.cast(part, "float32"), outputs)

    return call


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
    targets :
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
            to_give = advice if several else _TARGETS_OF_TASKS.get(np.ndim(outputs), advice)
            raise ValueError(
                f"`targets` is None, and the model gives {given} instead of (N, classes), which "
                f"name no predicted class; {to_give}"
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
    checksum = None
    for values in _weights(model):
        checksum = zlib.crc32(np.ascontiguousarray(values).tobytes(), checksum or 0)
    return checksum


def _weights(model: Any) -> Iterator[np.ndarray]:
    """The weights of a model, one by one."""
    module = torch_module(model)
    if module is None:
        for variable in getattr(model, "variables", None) or ():
            yield variable.numpy()
        return
    for values in module.state_dict().values():
        # modules may keep other things there; NumPy lacks some dtypes of PyTorch
        if hasattr(values, "detach"):
            yield values.detach().cpu().double().numpy()
