"""
Inputs with their targets: arrays in memory, or a dataset that is read as a stream. Checksums.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from ._checks import batch_shape
from ._models import check_input, input_shape, output_shape, predicted_targets

# values that stand beside each sample, from the positions and inputs of a batch
PerSample = Callable[[np.ndarray, np.ndarray], np.ndarray]
# samples that tell what the inputs are like
_NB_LOOKED_AT = 32


class Batch(NamedTuple):
    """Some samples: their positions in the data (B,), inputs (B, ...) and targets (B, ...)."""

    positions: np.ndarray
    inputs: np.ndarray
    targets: np.ndarray


@runtime_checkable
class Samples(Protocol):
    """
    Inputs and targets that are read in batches, as float32.

    `probe` is the first sample, as inputs (1, ...) and targets (1, ...).
    """

    probe: tuple[np.ndarray, np.ndarray]
    # whether they are read anew at each pass
    is_stream: bool
    # whether the targets were given: else they are the classes that the model predicts
    has_labels: bool
    # their number, if it is known without reading them all
    known_length: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.probe[0].shape[1:]

    def __len__(self) -> int: ...

    def batches(
        self, batch_size: int, positions: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Batches of at most `batch_size` samples: all in order, or those at `positions`."""
        ...

    def per_sample(self, function: Callable) -> PerSample:
        """What a function of inputs (B, ...) gives for the samples of any batch."""
        ...

    def fingerprints(self) -> np.ndarray:
        """A checksum per sample; computing it reads all samples once."""
        ...

    def in_memory(self) -> ArraySamples:
        """The same samples, held in memory."""
        ...


def make_samples(inputs: Any, targets: Any = None, model: Any = None) -> Samples:
    """
    Samples of arrays (N, ...) or of a dataset, whichever is given; samples stay as they are.

    Targets of None stand for the class that the model predicts, one-hot. The input shape of the
    model tells whether a dataset is batched.
    """
    if isinstance(inputs, (ArraySamples, StreamSamples)):
        return inputs
    check_input(model)
    if isinstance(inputs, tf.data.Dataset):
        return StreamSamples(inputs, targets, model)
    if isinstance(inputs, Iterator):
        raise TypeError(
            f"The inputs are a {type(inputs).__name__}, which can be read once; give an array, or "
            "a tf.data.Dataset, such as tf.data.Dataset.from_generator makes of a function."
        )
    inputs = np.asarray(inputs)
    if not inputs.ndim or not len(inputs):
        raise ValueError(f"The inputs have shape {inputs.shape}; give at least one, (N, ...).")
    check_batch(inputs.shape, model)
    if targets is None:
        return ArraySamples(inputs, predicted_targets(model, inputs), has_labels=False)
    return ArraySamples(inputs, targets)


class ArraySamples(Samples):
    """
    Samples held in memory.

    Parameters
    ----------
    inputs
        Array or Tensor of shape (N, ...).
    targets
        Array or Tensor of shape (N, ...).
    has_labels
        Whether the targets were given, not predicted.
    """

    is_stream = False

    def __init__(self, inputs: Any, targets: Any, has_labels: bool = True):
        self.has_labels = has_labels
        self.inputs, self.targets = np.asarray(inputs), _targets_array(targets)
        check_pairs(self.inputs.shape, self.targets.shape)
        self.known_length = len(self.inputs)
        self.probe = _float32(self.inputs[:1]), _float32(self.targets[:1])
        self._fingerprints: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(
        self, batch_size: int, positions: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Batches in the order of `positions`."""
        chosen = np.arange(len(self)) if positions is None else np.asarray(positions)
        for start in range(0, len(chosen), batch_size):
            part = chosen[start : start + batch_size]
            yield Batch(part, _float32(self.inputs[part]), _float32(self.targets[part]))

    def per_sample(self, function: Callable) -> PerSample:
        """The function is given all inputs, once, as Xplique's metrics do."""
        values: np.ndarray | None = None

        def of_batch(positions: np.ndarray, inputs: np.ndarray) -> np.ndarray:
            nonlocal values
            if values is None:
                values = np.asarray(function(_float32(self.inputs)))
            is_per_sample = values.ndim == inputs.ndim and len(values) == len(self)
            return values[positions] if is_per_sample else values

        return of_batch

    def in_memory(self) -> ArraySamples:
        """These samples."""
        return self

    def fingerprints(self) -> np.ndarray:
        """A checksum per sample."""
        if self._fingerprints is None:
            self._fingerprints = _checksums(self)
        return self._fingerprints


class StreamSamples(Samples):
    """
    Samples that are read from a dataset, again at each pass.

    Parameters
    ----------
    dataset
        Pairs (inputs, targets), or inputs alone, batched or not, the same in the same order at each
        pass.
    targets
        None: the dataset brings its own. Where it does not, they are the predicted classes.
    model
        Its input shape tells whether a dataset is batched, and it predicts missing targets.
    """

    is_stream = True

    def __init__(self, dataset: tf.data.Dataset, targets: Any = None, model: Any = None):
        self._model = None
        self.has_labels = not isinstance(dataset.element_spec, tf.TensorSpec)
        if not self.has_labels:
            if model is None:
                raise ValueError(
                    f"The dataset gives {dataset.element_spec}; it must give pairs (inputs, "
                    "targets). Add a dataset.map that makes such pairs."
                )
            self._model = model
            # a place for the predicted classes
            dataset = unbatched_inputs(dataset, model).map(lambda x: (x, tf.zeros((1,))))
            self.dataset = dataset
        else:
            self.dataset = unbatched(dataset, targets, model)
        first = next(iter(self.dataset), None)
        if first is None:
            raise ValueError("The dataset is empty; give at least one sample.")
        cardinality = int(self.dataset.cardinality())
        if cardinality == tf.data.INFINITE_CARDINALITY:
            raise ValueError("The dataset never ends; add dataset.take(number of samples).")
        self.known_length = cardinality if cardinality >= 0 else None
        self._fingerprints: np.ndarray | None = None
        inputs = _float32(first[0])[np.newaxis]
        self.probe = inputs, self._targets_of(inputs, np.asarray(first[1])[np.newaxis])

    def __len__(self) -> int:
        if self.known_length is None:
            self.known_length = int(self.dataset.reduce(np.int64(0), lambda count, _: count + 1))
        return self.known_length

    def batches(
        self, batch_size: int, positions: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[Batch]:
        """Batches in the order of the dataset, whatever that of `positions`."""
        numbered = self.dataset.enumerate()
        if positions is not None:
            flags = np.zeros(len(self), bool)
            flags[np.asarray(positions)] = True
            wanted = tf.constant(flags)
            numbered = numbered.take(int(np.max(positions)) + 1)
            numbered = numbered.filter(lambda position, _: wanted[position])
        # the first whole pass is what later ones are compared with
        is_first, seen = positions is None and self._fingerprints is None, []
        for position, (read, targets) in numbered.batch(batch_size).prefetch(1):
            inputs = _float32(read)
            batch = Batch(position.numpy(), inputs, self._targets_of(inputs, targets))
            self._check_order(batch)
            if is_first:
                seen += [_checksum(*pair) for pair in zip(*batch[1:])]
            yield batch
        if is_first and self.known_length in (None, len(seen)):
            self._fingerprints, self.known_length = np.array(seen), len(seen)

    def per_sample(self, function: Callable) -> PerSample:
        """The function is given each batch."""
        return lambda _, inputs: np.asarray(function(inputs))

    def in_memory(self) -> ArraySamples:
        """The same samples, held in memory."""
        _, inputs, targets = zip(*self.batches(64))
        return ArraySamples(np.concatenate(inputs), np.concatenate(targets), self.has_labels)

    def fingerprints(self) -> np.ndarray:
        """A checksum per sample; the first time it reads the dataset once."""
        if self._fingerprints is None:
            found = _checksums(self)
            if self.known_length not in (None, len(found)):
                raise ValueError(
                    f"The dataset has {self.known_length} samples, and gave {len(found)}. One with "
                    "dataset.cache() may do so if it was not read to its end before: read it once "
                    "as a whole, or leave the cache out."
                )
            self._fingerprints, self.known_length = found, len(found)
        return self._fingerprints

    def _targets_of(self, inputs: np.ndarray, read: Any) -> np.ndarray:
        return _float32(read) if self._model is None else predicted_targets(self._model, inputs)

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


def is_batched(inputs: tf.TensorShape, targets: tf.TensorShape | None, model: Any = None) -> bool:
    """Whether elements of these shapes are batches: Xplique knows only if `batch` came last."""
    wanted = input_shape(model)
    if wanted is not None:
        return inputs.rank == len(wanted)
    if targets is not None and targets.rank and inputs.rank:
        sizes = {inputs[0], targets[0]}
        if None not in sizes and len(sizes) > 1:
            return False
    if inputs.rank > 3 or targets is None:
        return inputs.rank > 3
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
    return _sample_by_sample(dataset, spec[0].shape, spec[1].shape, model)


def unbatched_inputs(dataset: tf.data.Dataset, model: Any) -> tf.data.Dataset:
    """A dataset of inputs alone, sample by sample."""
    return _sample_by_sample(dataset, dataset.element_spec.shape, None, model)


def _sample_by_sample(dataset, inputs, targets, model) -> tf.data.Dataset:
    if inputs.rank is None:
        raise ValueError("The dataset gives inputs of unknown rank; set it by tf.ensure_shape.")
    known = hasattr(dataset, "_batch_size") and input_shape(model) is None
    return dataset.unbatch() if known or is_batched(inputs, targets, model) else dataset


def first_batch(samples: Samples) -> Batch:
    """The first samples, at most 32."""
    length = samples.known_length
    positions = None if length is None else np.arange(min(length, _NB_LOOKED_AT))
    return next(iter(samples.batches(_NB_LOOKED_AT, positions)))


def check_batch(shape: tuple[int | None, ...], model: Any) -> None:
    """Raise a ValueError unless inputs of this shape are a batch of what the model wants."""
    wanted = input_shape(model)
    if wanted is None or len(shape) == len(wanted):
        return
    # Keras adds a channel that lacks, and takes one off that is too many
    longer = max(shape, wanted, key=len)
    is_single = len(shape) == len(wanted) - 1 and shape[-1:] == wanted[-1:]
    if abs(len(shape) - len(wanted)) > 1 or longer[-1] != 1 or is_single:
        advice = "; a single input goes as inputs[None], and its target as targets[None]."
        raise ValueError(
            f"The inputs have shape {shape} and the model wants {batch_shape(wanted[1:])}"
            + (advice if len(shape) == len(wanted) - 1 else ".")
        )


def check_pairs(inputs: tuple[int | None, ...], targets: tuple[int | None, ...]) -> None:
    """Raise a ValueError unless inputs and targets of these shapes are as many."""
    # a single target may come without its axis; graphs may not know how many there are
    numbers = {inputs[0], (targets or (1,))[0]} - {None} if inputs else set()
    if len(inputs) < 2 or len(numbers) > 1:
        raise ValueError(
            f"`inputs` have shape {inputs} and `targets` {targets}; give (N, ...) and "
            "(N, output_size), with the same N."
        )


def check_one_hot(found: tuple[int | None, ...], model: Any) -> None:
    """Raise a ValueError unless targets (N, *found) have the shape of the model's outputs."""
    if not found:
        raise ValueError(
            "`targets` hold one number per input; give one-hot targets of shape "
            "(N, output_size), for instance tf.one_hot(labels, nb_classes)."
        )
    outputs = output_shape(model)
    is_known = isinstance(outputs, tuple) and None not in (*outputs[1:], *found)
    if is_known and outputs[1:] != found:
        has_classes = len(outputs) == 2
        advice = (
            "give one-hot targets of the same shape, for instance tf.one_hot(labels, nb_classes)."
            if has_classes
            else "say what to explain by `operator=`, for instance 'object detection' or 'semantic "
            "segmentation'."
        )
        raise ValueError(
            f"`targets` have shape {batch_shape(found)} and the model's outputs "
            f"{batch_shape(outputs[1:])}; {advice}"
        )


def _checksums(samples: Samples) -> np.ndarray:
    found = [
        _checksum(*pair)
        for _, inputs, targets in samples.batches(64)
        for pair in zip(inputs, targets)
    ]
    return np.array(found, np.uint32)


def _targets_array(targets: Any) -> np.ndarray:
    try:
        return np.asarray(targets)
    except ValueError as error:
        raise ValueError(
            "`targets` are of several shapes; give one array (N, ...). Where images have several "
            "boxes each, fill up with rows of zeros."
        ) from error


def _float32(values: Any) -> np.ndarray:
    return np.asarray(values).astype(np.float32, copy=False)


def _checksum(inputs: np.ndarray, targets: np.ndarray) -> int:
    return zlib.crc32(targets.tobytes(), zlib.crc32(np.ascontiguousarray(inputs).data))
