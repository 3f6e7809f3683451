"""
The scorer of perturbed inputs: model, operator, activation, batches and baseline, for any metric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from xplique.commons.callable_operations import predictions_one_hot_callable

from .._notices import notify
from .._samples import Batch, Samples
from ._options import ScoringOptions

# first attempt of batch_size="auto"
AUTOMATIC = 256
# makes inputs of shape (copies, B, rows, ...) from tensors, on their device
Perturbation = Callable[..., tf.Tensor]


class Scorer:
    """
    The model's scores of perturbed inputs, in batches.

    Parameters
    ----------
    model
        Model with the activation on it, as Xplique's metrics have it.
    inference
        Function of model, inputs and targets that gives the scores, as Xplique's metrics have it.
    samples
        Inputs and targets.
    options
        How to score.
    """

    def __init__(
        self, model: Callable, inference: Callable, samples: Samples, options: ScoringOptions
    ):
        self.model, self.inference = model, inference
        self.samples, self.options = samples, options
        # number of inputs that the model was given
        self.nb_evaluations = 0
        self._automatic = AUTOMATIC if options.batch_size == "auto" else None
        self._graphs: dict[tuple, Callable] = {}
        value: Any = options.baseline_mode
        self._baseline_of = samples.per_sample(value) if callable(value) else None

    @property
    def nb_rows(self) -> int:
        """Number of inputs to give to the model at once."""
        return int(self._automatic or self.options.batch_size or len(self.samples))

    def baselines(self, batch: Batch) -> np.ndarray:
        """What stands for the perturbed features of a batch, of the shape of its inputs."""
        value: Any = self.options.baseline_mode
        if self._baseline_of is not None:
            value = self._baseline_of(batch.positions, batch.inputs)
        elif np.ndim(value) == batch.inputs.ndim and len(value) == len(self.samples) > 1:
            value = np.asarray(value)[batch.positions]
        return checked_baseline(value, batch.inputs.shape)

    def retrying(self, score: Callable[..., Any], *arguments: Any) -> Any:
        """With `batch_size="auto"`: where memory is exhausted, halve the batches and go on."""
        while True:
            try:
                return score(*arguments)
            except tf.errors.ResourceExhaustedError:
                if self._automatic is None or self._automatic == 1:
                    raise
                self._automatic //= 2
            notify(
                f"The memory was exhausted; going on with batch_size={self._automatic}. Pass that "
                "number next time to spare the attempts."
            )

    def predict(self, perturb: Perturbation, targets: Any, *tensors: Any) -> np.ndarray:
        """
        Scores of perturbed inputs, for B targets.

        `perturb` makes inputs of shape (copies, B, rows, ...) from the tensors, on their device;
        the scores have shape (copies, B, rows).
        """
        arguments = [tf.convert_to_tensor(tensor) for tensor in (targets, *tensors)]
        key = (perturb, *(argument.dtype for argument in arguments))
        if key not in self._graphs:
            self._graphs[key] = self._build(perturb, arguments)
        scores = self._graphs[key](*arguments).numpy()
        self.nb_evaluations += scores.size
        return scores

    def _build(self, perturb: Perturbation, arguments: list[tf.Tensor]) -> Callable:
        """Perturbation and model as one graph for any batch; the model apart if it is no graph."""
        model, inference, shape = self.model, self.inference, self.samples.shape
        # a tf.function of its own would keep every model that it was ever traced with
        traceable: Any = getattr(inference, "python_function", inference)

        def make_rows(targets, *tensors):
            inputs = perturb(*tensors)
            head = tf.shape(inputs)[:3]
            repeated = tf.repeat(targets, head[2], axis=0)
            copies = tf.concat([head[:1], tf.ones(len(targets.shape) - 1, tf.int32)], axis=0)
            return tf.reshape(inputs, (-1, *shape)), tf.tile(repeated, copies), head

        def score(*arguments):
            rows, targets, head = make_rows(*arguments)
            return tf.reshape(traceable(model, rows, targets), head)

        specs = [tf.TensorSpec([None] * len(a.shape), a.dtype) for a in arguments]
        if inference is not predictions_one_hot_callable:
            try:
                return tf.function(score).get_concrete_function(*specs)
            except Exception:  # an operator may call anything: NumPy, another library, print
                pass
        rows_graph = tf.function(make_rows).get_concrete_function(*specs)

        def score_eagerly(*arguments):
            rows, targets, head = rows_graph(*arguments)
            return tf.reshape(inference(model, rows, targets), head)

        return score_eagerly


def checked_baseline(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """What `baseline_mode` is or gives, for inputs of that shape."""
    try:
        values = np.asarray(value).astype(np.float32, copy=False)
        values = np.broadcast_to(values, shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`baseline_mode` is or gives {np.asarray(value).dtype} values of shape "
            f"{np.shape(value)}, which do not go with inputs of shape {shape}; give a number, or a "
            "function of the inputs that gives what replaces them."
        ) from error
    if np.isnan(values).any():
        raise ValueError("`baseline_mode` is or gives NaN; give numbers.")
    return values
