"""
Inputs with their targets: arrays in memory, or a dataset that is read as a stream. Checksums.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# positions in the data, inputs, targets
Batch = tuple[np.ndarray, np.ndarray, np.ndarray]


def is_batched(dataset: tf.data.Dataset, model: Any = None) -> bool:
    """Whether a dataset of pairs gives batches. Xplique knows only if `batch` was called last."""
    inputs, targets = (spec.shape for spec in dataset.element_spec)
    model_shape = getattr(model, "input_shape", None)
    if isinstance(model_shape, tuple):
        return inputs.rank == len(model_shape)
    if hasattr(dataset, "_batch_size") or inputs.rank > 3:
        return True
    # a model of unknown inputs: one-hot targets in batches have the length of the inputs
    return targets.rank == 2 and inputs[0] == targets[0]


def unbatched(dataset: tf.data.Dataset, targets: Any = None, model: Any = None) -> tf.data.Dataset:
    """The dataset of pairs (input, target), sample by sample."""
    if targets is not None:
        raise ValueError("A dataset brings its own targets; leave `targets` to None.")
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise ValueError(
            f"The dataset gives {spec}; it must give pairs (inputs, targets). Add a "
            "dataset.map that makes such pairs."
        )
    if spec[0].shape.rank is None:
        raise ValueError("The dataset gives inputs of unknown rank; set it by tf.ensure_shape.")
    return dataset.unbatch() if is_batched(dataset, model) else dataset


class Samples:
    """
    Inputs and targets that are read in batches, as float32.

    Parameters
    ----------
    inputs
        Array or Tensor of shape (N, ...), or a dataset of pairs (inputs, targets), batched or not.
        A dataset is read again at each pass, and must give the same samples in the same order.
    targets
        Array or Tensor of shape (N, ...); None with a dataset.
    model
        Its input shape tells whether a dataset is batched.
    """

    def __init__(self, inputs: Any, targets: Any = None, model: Any = None):
        if isinstance(inputs, Samples):
            self.__dict__.update(inputs.__dict__)
            return
        self._length: int | None = None
        self._fingerprints: np.ndarray | None = None
        self.dataset: tf.data.Dataset | None = None
        if isinstance(inputs, tf.data.Dataset):
            self.dataset = unbatched(inputs, targets, model)
            first = next(iter(self.dataset), None)
            if first is None:
                raise ValueError("The dataset is empty; give at least one sample.")
            self.probe = tuple(_float32(part)[np.newaxis] for part in first)
            cardinality = int(self.dataset.cardinality())
            if cardinality == tf.data.INFINITE_CARDINALITY:
                raise ValueError("The dataset never ends; add dataset.take(number of samples).")
            if cardinality >= 0:
                self._length = cardinality
            return
        if targets is None:
            raise ValueError(
                "`targets` is None: say which output to explain, by one-hot targets of shape "
                "(N, output_size), for instance tf.one_hot(labels, nb_classes)."
            )
        self.inputs, self.targets = np.asarray(inputs), np.asarray(targets)
        if self.inputs.ndim < 2 or len(self.inputs) != len(np.atleast_1d(self.targets)):
            raise ValueError(
                f"`inputs` have shape {self.inputs.shape} and `targets` {self.targets.shape}; give "
                "(N, ...) and (N, output_size), with the same N."
            )
        if not len(self.inputs):
            raise ValueError(f"`inputs` have shape {self.inputs.shape}; give at least one sample.")
        self._length = len(self.inputs)
        self.probe = _float32(self.inputs[:1]), _float32(self.targets[:1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.probe[0].shape[1:]

    def __len__(self) -> int:
        if self._length is None:
            assert self.dataset is not None
            self._length = int(self.dataset.reduce(np.int64(0), lambda count, _: count + 1))
        return self._length

    def batches(
        self, batch_size: int, positions: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[Batch]:
        """
        Batches of at most `batch_size` samples: all in order, or those at `positions`.

        A dataset gives those at `positions` in its own order, whatever theirs.
        """
        if self.dataset is None:
            chosen = np.arange(len(self)) if positions is None else np.asarray(positions)
            for start in range(0, len(chosen), batch_size):
                part = chosen[start : start + batch_size]
                yield part, _float32(self.inputs[part]), _float32(self.targets[part])
            return
        numbered = self.dataset.enumerate()
        if positions is not None:
            flags = np.zeros(len(self), bool)
            flags[np.asarray(positions)] = True
            wanted = tf.constant(flags)
            numbered = numbered.take(int(np.max(positions)) + 1)
            numbered = numbered.filter(lambda position, _: wanted[position])
        for position, (inputs, targets) in numbered.batch(batch_size).prefetch(1):
            batch = position.numpy(), _float32(inputs), _float32(targets)
            self._check_order(batch)
            yield batch

    def fingerprints(self) -> np.ndarray:
        """A checksum per sample; computing it reads all samples once."""
        if self._fingerprints is None:
            found = [_checksum(x, y) for _, xs, ys in self.batches(64) for x, y in zip(xs, ys)]
            self._fingerprints = np.array(found, np.uint32)
            self._length = len(found)
        return self._fingerprints

    def _check_order(self, batch: Batch) -> None:
        if self._fingerprints is None:
            return
        for position, inputs, targets in zip(*batch):
            if (
                position >= len(self._fingerprints)
                or _checksum(inputs, targets) != self._fingerprints[position]
            ):
                raise ValueError(
                    f"The dataset gave another sample at position {position} than when it was "
                    "read before. It must give the same samples in the same order at each pass: "
                    "use dataset.shuffle(..., reshuffle_each_iteration=False), no random "
                    "augmentation, or dataset.cache()."
                )


def check_one_hot(samples: Samples, model: Any) -> None:
    """Raise a ValueError unless the targets have the shape of the model's outputs."""
    found = samples.probe[1].shape[1:]
    if not found:
        raise ValueError(
            "`targets` hold one number per input; give one-hot targets of shape "
            "(N, output_size), for instance tf.one_hot(labels, nb_classes)."
        )
    outputs: Any = getattr(model, "output_shape", None)
    is_known = isinstance(outputs, tuple) and None not in outputs[1:]
    if is_known and outputs[1:] != found:
        raise ValueError(
            f"`targets` have shape {('N', *found)} and the model's outputs "
            f"{('N', *outputs[1:])}; give one-hot targets of the same shape, for instance "
            "tf.one_hot(labels, nb_classes)."
        )


def weights_checksum(model: Any) -> int | None:
    """A checksum of the model's weights; None if it has none that can be read."""
    variables = getattr(model, "variables", None)
    if not variables:
        return None
    checksum = 0
    for variable in variables:
        checksum = zlib.crc32(np.ascontiguousarray(variable.numpy()).tobytes(), checksum)
    return checksum


def _float32(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32, copy=False)


def _checksum(inputs: np.ndarray, targets: np.ndarray) -> int:
    return zlib.crc32(targets.tobytes(), zlib.crc32(np.ascontiguousarray(inputs).data))
