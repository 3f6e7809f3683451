"""
The scorer of perturbed inputs: model, operator, activation, batches and baseline, for any metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from xplique.commons.callable_operations import predictions_one_hot_callable

from .._notices import notify
from .._replicas import Replicas
from .._samples import Batch, Samples
from ._options import ScoringOptions

# first attempt of batch_size="auto"
AUTOMATIC = 256
# makes inputs of shape (copies, B, rows, ...) from tensors, on their device
Perturbation = Callable[..., tf.Tensor]
# flat scores of the tensors of an item for each replica, one item after the other
Scoring = Callable[[Sequence[tuple]], np.ndarray]
_LOG_2 = math.log(2)


class Item(NamedTuple):
    """
    Perturbed inputs to be scored at once: the shape of their scores, B targets, and the tensors
    (B, ...) that the inputs are made of.
    """

    shape: tuple[int, ...]
    targets: Any
    tensors: tuple[Any, ...]


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
        self.replicas = Replicas(options.strategy)
        if self.replicas.are_processes and options.batch_size == "auto":
            raise ValueError(
                "`batch_size` is 'auto', and the strategy has several processes, which must try "
                "the same sizes; give a number."
            )
        self._automatic = AUTOMATIC if options.batch_size == "auto" else None
        self._graphs: dict[tuple, Callable] = {}
        value: Any = options.baseline_mode
        self._baseline_of = samples.per_sample(value) if callable(value) else None

    @property
    def nb_rows(self) -> int:
        """Number of inputs to give to the model at once, on each replica."""
        size = int(self._automatic or self.options.batch_size or len(self.samples))
        return -(-size // self.replicas.number)

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

    def predict(self, perturb: Perturbation, items: Iterable[Item]) -> Iterator[np.ndarray]:
        """
        Scores of perturbed inputs, item by item; each replica takes an item at a time.

        `perturb` makes inputs of shape (copies, B, rows, ...) from the tensors of an item, on their
        device.
        """
        for several in self.replicas.rounds(items):
            arguments = [
                tuple(map(tf.convert_to_tensor, (item.targets, *item.tensors))) for item in several
            ]
            # replicas that are left over take one sample, since none may be empty
            spare = tuple(part[:1] for part in arguments[-1])
            arguments += [spare] * (self.replicas.number - len(several))
            key = (perturb, *(argument.dtype for argument in arguments[0]))
            if key not in self._graphs:
                self._graphs[key] = self._build(perturb, arguments[0])
            flat = self._or_say_what_xla_wants(self._graphs[key], arguments)
            sizes = [math.prod(item.shape) for item in several]
            self.nb_evaluations += sum(sizes)
            for item, part in zip(several, np.split(flat, np.cumsum(sizes))):
                yield part.reshape(item.shape)

    def _or_say_what_xla_wants(self, score: Scoring, arguments: Sequence[tuple]) -> np.ndarray:
        try:
            return score(arguments)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if not (self.options.jit_compile and "compile" in str(error)):
                raise
            lines = [line for line in str(error).splitlines() if "compile" in line]
            raise ValueError(
                "`jit_compile` is True, and XLA does not compile the model; leave it at False. XLA "
                f"says: {lines[0][:300]}"
            ) from error

    def _build(self, perturb: Perturbation, arguments: Sequence[tf.Tensor]) -> Scoring:
        """Perturbation and model as one graph for any batch; the model apart if it is no graph."""
        model, inference, shape = self.model, self.inference, self.samples.shape
        # a tf.function of its own would keep every model that it was ever traced with
        traceable: Any = getattr(inference, "python_function", inference)
        if self.options.jit_compile:
            traceable = self._compiled(traceable)

        def make_rows(targets, *tensors):
            inputs = perturb(*tensors)
            head = tf.shape(inputs)[:3]
            repeated = tf.repeat(targets, head[2], axis=0)
            copies = tf.concat([head[:1], tf.ones(len(targets.shape) - 1, tf.int32)], axis=0)
            return tf.reshape(inputs, (-1, *shape)), tf.tile(repeated, copies)

        def score(*arguments):
            return tf.reshape(traceable(model, *make_rows(*arguments)), [-1])

        specs = [tf.TensorSpec([None] * len(a.shape), a.dtype) for a in arguments]
        if inference is not predictions_one_hot_callable:
            try:
                return self.replicas.graph(score, specs)
            except Exception:  # an operator may call anything: NumPy, another library, print
                pass
        if self.options.jit_compile:
            raise ValueError(
                "`jit_compile` is True, and XLA compiles graphs of TensorFlow: not a model that is "
                "a function of Python, nor an operator that uses another library. Give the "
                "keras.Model itself, or leave `jit_compile` at False."
            )
        rows_graph = tf.function(make_rows).get_concrete_function(*specs)

        def score_eagerly(item):
            return tf.reshape(inference(model, *rows_graph(*item)), [-1])

        return lambda items: self.replicas.each(score_eagerly, items)

    def _compiled(self, inference: Callable) -> Callable:
        """The inference compiled by XLA, for a few sizes of batches: each takes a compilation."""
        compiled = tf.function(inference, jit_compile=True)

        def infer(model, rows, targets):
            number = tf.shape(rows)[0]
            # the next power of 2; float32 may put the logarithm of one just above it
            power = tf.math.ceil(tf.math.log(tf.cast(number, tf.float32)) / _LOG_2 - 1e-4)
            size = tf.maximum(number, tf.minimum(2 ** tf.cast(power, tf.int32), self.nb_rows))
            # the last one is repeated to fill up
            places = tf.minimum(tf.range(size), number - 1)
            return compiled(model, tf.gather(rows, places), tf.gather(targets, places))[:number]

        return infer


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
