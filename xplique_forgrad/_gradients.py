"""
The score of the targets as a function that can be differentiated, and what its models must be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from xplique.commons.operators_operations import Tasks, get_inference_function

from ._checks import batch_shape
from ._models import (
    check_has_inputs,
    check_input,
    check_is_wrapped,
    check_one_output,
    input_shape,
    last_activation,
    torch_module,
)
from ._notices import notify
from ._ranges import check_range
from ._samples import Samples, first_batch, make_samples
from ._tasks import check_is_operator, check_samples

# what public functions take: inputs (N, ...) or a dataset with targets, and targets or None
Inputs: TypeAlias = npt.ArrayLike | tf.Tensor | tf.data.Dataset
Targets: TypeAlias = npt.ArrayLike | tf.Tensor | None
# the scores (N,) to explain, of a model, inputs and targets; a task of Xplique, or its name
Operator: TypeAlias = Callable[[Callable, tf.Tensor, tf.Tensor], tf.Tensor] | Tasks | str | None
# gives the scores (N,) of inputs (N, ...) and targets (N, output_size)
Scorer = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def check_differentiable(model: object) -> None:
    """Raise a TypeError unless the model is one of Keras, and a ValueError unless it is built."""
    check_is_wrapped(model)
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` is a {type(model).__name__}; give a keras.Model. The gradients of a plain "
            "callable (a function, a model of another library) are not known."
        )
    check_has_inputs(model)
    if not model.built and torch_module(model) is None:
        raise ValueError(
            f"The model {model.name!r} is not built, so it has no weights yet; call it once on a "
            "batch of inputs."
        )


def make_scorer(model: keras.Model, operator: Operator = None) -> Scorer:
    """
    The score f(x) . y of Xplique's operator, with the layers at inference.

    A plain function, so that layers may be watched while it runs; trace it for speed.
    """
    inference, _ = get_inference_function(model, operator)
    # a tf.function of its own would keep every model that it was ever traced with
    score = getattr(inference, "python_function", inference)

    def call(x):
        # outputs of half precision do not multiply with targets
        outputs = model(x, training=False)
        return keras.tree.map_structure(lambda part: tf.cast(part, tf.float32), outputs)

    def scorer(inputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return tf.cast(score(call, inputs, targets), tf.float32)

    return scorer


def score_and_gradient(
    scorer: Scorer, inputs: tf.Tensor, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The scores of a batch, and their gradient with respect to the inputs."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        scores = scorer(inputs, targets)
    return scores, tape.gradient(scores, inputs)


def make_gradient(scorer: Scorer, samples: Samples) -> Scorer:
    """The gradient of the scores with respect to the inputs, for any batch of them."""
    return as_graph(
        lambda inputs, targets: score_and_gradient(scorer, inputs, targets)[1],
        batch_specs(samples),
    )


def batch_specs(samples: Samples) -> list[tf.TensorSpec]:
    """Of any batch of inputs and targets."""
    return [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in samples.probe]


def as_graph(function: Callable, specs: Sequence[tf.TensorSpec]) -> Callable:
    """The function as a graph; as it is where the model runs another library, and is none."""
    try:
        return tf.function(function).get_concrete_function(*specs)
    except Exception:  # a model may call anything
        return function


def differentiable_samples(
    model: keras.Model,
    inputs: Inputs | Samples,
    targets: Targets = None,
    operator: Operator = None,
) -> Samples:
    """`checked_samples` of a model to differentiate: a softmax and a wrong range are warned of."""
    samples = checked_samples(model, inputs, targets, operator)
    check_range(model, lambda: first_batch(samples).inputs)
    if last_activation(model) == "softmax":
        notify(
            f"The model {model.name!r} ends in a softmax, whose gradient vanishes where it is "
            "sure; give logits: classifier_activation=None, or activation=None in its last layer."
        )
    return samples


def checked_samples(
    model: keras.Model,
    inputs: Inputs | Samples,
    targets: Targets = None,
    operator: Operator = None,
) -> Samples:
    """
    Inputs and targets, checked against the model.

    Targets of None stand for the class that the model predicts, one-hot.
    """
    check_differentiable(model)
    check_input(model)
    check_is_operator(operator)
    if operator is None:
        check_one_output(model)
    samples = make_samples(inputs, targets, model)
    _check_sizes(samples.shape, input_shape(model))
    check_samples(samples, model, operator)
    return samples


def _check_sizes(shape: tuple[int, ...], wanted: tuple[int | None, ...] | None) -> None:
    """Raise a ValueError unless inputs of the shape are what the model wants."""
    if wanted is None:
        return
    fits = len(shape) == len(wanted) - 1 and all(
        size in (None, found) for size, found in zip(wanted[1:], shape)
    )
    if not fits:
        raise ValueError(
            f"The inputs have shape {batch_shape(shape)} and the model wants "
            f"{batch_shape(wanted[1:])}."
        )


def check_are_images(samples: Samples) -> None:
    """Raise a ValueError unless the inputs are of shape (N, H, W, C)."""
    if len(samples.shape) != 3:
        raise ValueError(
            f"The inputs have shape {batch_shape(samples.shape)}; give images of shape "
            "(N, H, W, C)."
        )


def check_finite_inputs(inputs: np.ndarray, positions: np.ndarray) -> None:
    """Raise a ValueError that names the first input with NaN or infinite values."""
    is_finite = np.isfinite(inputs).reshape(len(inputs), -1).all(axis=1)
    if not is_finite.all():
        position = positions[int(np.argmin(is_finite))]
        raise ValueError(f"Input {position} holds NaN or infinite values; mend or drop it.")
