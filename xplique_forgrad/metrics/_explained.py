"""
Explanations in step with batches of inputs: of an array, of a dataset, or asked of an explainer.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol

import numpy as np
import tensorflow as tf

from .._checks import batch_shape
from .._samples import Batch, Samples


class Explainer(Protocol):
    """What gives explanations, such as the explainers of Xplique and `FORGrad`."""

    def explain(self, inputs: Any, targets: Any) -> Any:
        """Explanations (B, ...) of inputs (B, ...)."""
        ...


class _Source(Protocol):
    """Explanations, taken from the first to the last."""

    # their number, None if it is not known before they are read
    length: int | None

    def take(self, batch: Batch) -> Any:
        """Those of the next batch of inputs; fewer where they end."""
        ...

    def is_over(self) -> bool:
        """Whether none is left, asked at the end."""
        ...


def explained_batches(
    explanations: Any, samples: Samples, batch_size: int
) -> Iterator[tuple[Batch, np.ndarray]]:
    """
    Batches of samples with their explanations.

    Parameters
    ----------
    explanations
        An array (N, ...), a dataset, batched or not, or an object with `explain`, which is asked
        for each batch.
    samples
        The N samples.
    batch_size
        Number of samples of a batch.

    Raises
    ------
    ValueError
        If there are fewer explanations than samples, or more.
    TypeError
        If they are no real numbers, or a dataset gives more than explanations.
    """
    source = _source(explanations, samples, batch_size)
    if None not in (source.length, samples.known_length) and source.length != len(samples):
        _refuse(str(source.length), samples)
    nb_read = 0
    for batch in samples.batches(batch_size):
        maps = checked_array(source.take(batch))
        nb_read += len(maps)
        if len(maps) < len(batch.positions):
            _refuse(str(nb_read), samples)
        if len(maps) > len(batch.positions):
            break
        yield batch, maps
    if nb_read > len(samples) or not source.is_over():
        _refuse(str(source.length or f"more than {len(samples)}"), samples)


def checked_array(explanations: Any) -> np.ndarray:
    """The explanations as an array of a dtype of NumPy's own, whose order of ties is Xplique's."""
    values = np.asarray(explanations)
    if values.dtype == tf.bfloat16.as_numpy_dtype:
        return values.astype(np.float32)
    if values.dtype.kind not in "fiub":
        raise TypeError(
            f"The explanations have dtype {values.dtype}; give real numbers, a dataset of them, or "
            "an explainer."
        )
    return values


class _OfArray:
    def __init__(self, explanations: Any):
        self._values = checked_array(explanations)
        self.length: int | None = len(self._values)
        self._nb_taken = 0

    def take(self, batch: Batch) -> np.ndarray:
        first = self._nb_taken
        self._nb_taken += len(batch.positions)
        return self._values[first : self._nb_taken]

    def is_over(self) -> bool:
        return self._nb_taken >= len(self._values)


class _OfDataset:
    length: int | None = None

    def __init__(self, dataset: tf.data.Dataset, samples: Samples, batch_size: int):
        if not isinstance(dataset.element_spec, tf.TensorSpec):
            raise TypeError(
                f"The dataset of explanations gives {dataset.element_spec}; it must give "
                "explanations alone: add a dataset.map that leaves the others out."
            )
        first = next(iter(dataset), None)
        if first is not None and _is_batched(tuple(first.shape), samples.shape):
            dataset = dataset.unbatch()
        self._batches = iter(dataset.batch(batch_size))

    def take(self, batch: Batch) -> np.ndarray:
        found = next(self._batches, None)
        return np.empty(0) if found is None else found.numpy()

    def is_over(self) -> bool:
        return next(self._batches, None) is None


def _is_batched(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an element of this shape is a batch of maps of inputs of that shape, or one map."""
    sizes = shape[:-1] if len(shape) > 2 else shape
    if found[1 : len(sizes) + 1] == sizes:
        return True
    if found[: len(sizes)] != sizes:
        raise ValueError(
            f"The dataset of explanations gives elements of shape {found}, and the inputs have "
            f"shape {batch_shape(shape)}; give maps of the same height and width, batched or not."
        )
    return False


class _OfExplainer:
    # as many as it is asked for
    length: int | None = None

    def __init__(self, explainer: Explainer):
        if inspect.isclass(explainer):
            raise TypeError(
                f"{explainer.__name__} is a class; give an explainer, such as Saliency(model) or "
                "FORGrad(Saliency(model))."
            )
        self._explainer = explainer
        self._size = 0

    def take(self, batch: Batch) -> Any:
        # explainers are traced anew for each number of inputs: the last ones are filled up
        number = len(batch.positions)
        self._size = self._size or number
        places = np.minimum(np.arange(self._size), number - 1)
        found = self._explainer.explain(batch.inputs[places], batch.targets[places])
        if len(found) != self._size:
            raise ValueError(
                f"{type(self._explainer).__name__} gave {len(found)} explanations for {self._size} "
                "inputs; `explain` must give one for each."
            )
        return found[:number]

    def is_over(self) -> bool:
        return True


def _source(explanations: Any, samples: Samples, batch_size: int) -> _Source:
    if isinstance(explanations, tf.data.Dataset):
        return _OfDataset(explanations, samples, batch_size)
    if callable(getattr(explanations, "explain", None)):
        return _OfExplainer(explanations)
    return _OfArray(explanations)


def _refuse(number: str, samples: Samples) -> NoReturn:
    raise ValueError(
        f"There are {number} explanations for {len(samples)} inputs; give one per input, in the "
        "same order."
    )
