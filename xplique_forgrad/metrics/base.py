"""
What the metrics share: samples in batches, and the model's scores of perturbed inputs.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from xplique.commons.callable_operations import predictions_one_hot_callable
from xplique.metrics.base import ExplanationMetric

from .._checks import check_choice
from .._samples import Samples, check_one_hot

# first attempt of batch_size="auto"
_AUTO = 256


class PerImageMetric(ExplanationMetric):
    """
    A metric of Xplique that also scores each image, and reads its samples in batches.

    `nb_evaluations` counts the inputs that the model was given since the metric was built.
    """

    higher_is_better: bool

    @abstractmethod
    def evaluate_per_image(self, explanations: tf.Tensor | np.ndarray) -> np.ndarray:
        """Score of each explanation, of shape (N,)."""

    def evaluate(self, explanations: tf.Tensor | np.ndarray) -> float:
        """
        Mean score of the explanations over the images.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, ...).

        Returns
        -------
        score
            Mean score, equal to that of Xplique (on the same masks for MuFidelity).
        """
        return float(np.mean(self.evaluate_per_image(explanations), dtype=np.float64))

    def _prepare(
        self,
        inputs: Any,
        targets: Any,
        model: Any,
        batch_size: int | str | None,
        operator: Any,
        activation: str | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keep the samples, and give the first one: enough for Xplique's constructor."""
        is_number = isinstance(batch_size, (int, np.integer)) and not isinstance(batch_size, bool)
        allowed = batch_size in (None, "auto") or (is_number and int(batch_size or 0) > 0)
        if not allowed:
            raise ValueError(
                f"`batch_size` is {batch_size!r}; give the number of inputs to evaluate at once, "
                "None for all at once, or 'auto'."
            )
        check_choice("activation", activation, ("softmax", "sigmoid", None))
        self.samples = Samples(inputs, targets, model)
        if operator is None:
            check_one_hot(self.samples, model)
        inputs_probe, targets_probe = self.samples.probe
        return inputs_probe, targets_probe

    def _keep(self, batch_size: int | str | None) -> None:
        """Set what Xplique's constructor took from the first sample alone."""
        samples = self.samples
        self.inputs = samples.inputs if samples.dataset is None else samples.dataset
        self.targets = samples.targets if samples.dataset is None else None
        self.batch_size = batch_size
        self.nb_evaluations = 0
        self._automatic = _AUTO if batch_size == "auto" else None
        self._graphs: dict[Any, Callable] = {}

    @property
    def _nb_rows(self) -> int:
        """Number of inputs to give to the model at once."""
        return int(self._automatic or self.batch_size or len(self.samples))

    def _retrying(self, score: Callable[..., Any], *arguments: Any) -> Any:
        """With `batch_size="auto"`: where memory is exhausted, halve the batches and go on."""
        while True:
            try:
                return score(*arguments)
            except tf.errors.ResourceExhaustedError:
                if self._automatic is None or self._automatic == 1:
                    raise
                self._automatic //= 2
            warnings.warn(
                f"The memory was exhausted; going on with batch_size={self._automatic}. Pass that "
                "number next time to spare the attempts.",
                stacklevel=2,
            )

    def _predict(self, perturb: Callable, targets: Any, *tensors: Any) -> np.ndarray:
        """
        Scores of perturbed inputs, for B targets.

        `perturb` makes inputs of shape (copies, B, rows, ...) from the tensors, on their device;
        the scores have shape (copies, B, rows).
        """
        arguments = [tf.convert_to_tensor(tensor) for tensor in (targets, *tensors)]
        key = (perturb, id(self.model), *(argument.dtype for argument in arguments))
        if key not in self._graphs:
            self._graphs[key] = self._build(perturb, arguments)
        scores = self._graphs[key](*arguments)
        self.nb_evaluations += int(tf.size(scores))
        return scores.numpy()

    def _build(self, perturb: Callable, arguments: list[tf.Tensor]) -> Callable:
        """Perturbation and model as one graph for any batch; the model apart if it is no graph."""
        model, inference, shape = self.model, self.inference_function, self.samples.shape
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

    def _explained_batches(self, explanations: Any) -> Iterator[tuple[np.ndarray, ...]]:
        """Batches of positions, inputs, targets and explanations."""
        explanations = checked_array(explanations)
        samples, nb_read = self.samples, 0
        if samples.dataset is not None or len(samples) == len(explanations):
            for positions, inputs, targets in samples.batches(min(self._nb_rows, _AUTO)):
                part = explanations[nb_read : nb_read + len(positions)]
                nb_read += len(positions)
                if len(part) < len(positions):
                    break
                yield positions, inputs, targets, part
        if nb_read != len(explanations):
            raise ValueError(
                f"There are {len(explanations)} explanations for {len(samples)} inputs; give one "
                "per input, in the same order."
            )


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


def checked_array(explanations: Any) -> np.ndarray:
    """The explanations as an array of a dtype of NumPy's own, whose order of ties is Xplique's."""
    values = np.asarray(explanations)
    if values.dtype == tf.bfloat16.as_numpy_dtype:
        return values.astype(np.float32)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"The explanations have dtype {values.dtype}; give real numbers.")
    return values


def check_no_nan(flat: np.ndarray, positions: np.ndarray) -> None:
    """Raise a ValueError that names the first explanation with a NaN; flat is (..., B, n)."""
    bad = np.isnan(flat).any(axis=-1).reshape(-1, len(positions)).any(axis=0)
    if bad.any():
        raise ValueError(
            f"Explanation {positions[int(np.argmax(bad))]} holds NaN values, which have no order. "
            "Look at the model's outputs and gradients for that input, or drop it; "
            "np.nan_to_num(explanations) sets NaN to 0 if that is what you mean."
        )
