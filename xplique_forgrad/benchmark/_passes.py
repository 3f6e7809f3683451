"""
How often an explainer runs the model: forward and backward passes, counted where they happen.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.models.functional import Functional  # Keras exports no public name of it


class Passes:
    """
    A model that counts the inputs that go through it, and the gradients that come back.

    Copies that an explainer makes of the model count too.

    Parameters
    ----------
    model
        A functional or Sequential model of one output; other models are left as they are.
    """

    def __init__(self, model: Any):
        self.counters: list[tf.Variable] = []
        self.model = model
        is_graph = isinstance(model, (Functional, keras.Sequential)) and model.built
        if is_graph and len(model.inputs) == len(model.outputs) == 1:
            self.counters = [tf.Variable(0, trainable=False, dtype=tf.int64) for _ in range(2)]
            layer = _CountPasses(_keep(self.counters))
            self.model = keras.Model(model.inputs, layer(model.outputs[0]), name=model.name)

    def count(self) -> np.ndarray:
        """Inputs and gradients so far, of shape (2,); NaN where they are not counted."""
        return np.array([float(counter.numpy()) for counter in self.counters] or [np.nan] * 2)


# by number: copies of a layer, made of its settings, find the counters of the original
_COUNTERS: dict[int, list[tf.Variable]] = {}


def _keep(counters: list[tf.Variable]) -> int:
    _COUNTERS[len(_COUNTERS)] = counters
    return len(_COUNTERS) - 1


class _CountPasses(keras.layers.Layer):
    """Gives its inputs on, and counts them and their gradients."""

    def __init__(self, number: int, **options: Any):
        super().__init__(**options)
        self.number = number

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "number": self.number}

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        forward, backward = _COUNTERS[self.number]

        @tf.custom_gradient
        def counted(values):
            def grad(upstream):
                return _after(backward, upstream)

            return _after(forward, values), grad

        return counted(inputs)


def _after(counter: tf.Variable, values: tf.Tensor) -> tf.Tensor:
    """The values, once their number is added to the counter."""
    added = counter.assign_add(tf.shape(values, out_type=tf.int64)[0], read_value=False)
    with tf.control_dependencies([] if added is None else [added]):
        return tf.identity(values)
