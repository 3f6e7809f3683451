"""
Devices that share the passes of a model: one, or the replicas of a strategy of TensorFlow.
"""

from __future__ import annotations

import itertools
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

# what TensorFlow raises where another process does not answer
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class LostProcessError(RuntimeError):
    """A process of the strategy does not answer any more."""


class Replicas:
    """
    The replicas of a strategy, over the devices of one process or of several.

    Work comes in items. Each round gives one to every replica, and all processes know all results:
    so they go the same way, and each runs the same program on the same data.

    Parameters
    ----------
    strategy
        `tf.distribute.MirroredStrategy`, `MultiWorkerMirroredStrategy` or another that runs
        replicas in step; None for one device.

    Raises
    ------
    TypeError
        If it is no strategy.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None):
        if not isinstance(strategy, (tf.distribute.Strategy, type(None))):
            raise TypeError(
                f"`strategy` is {strategy!r}; give a strategy of tf.distribute, such as "
                "tf.distribute.MirroredStrategy(), or None for one device."
            )
        self.strategy, self.number = strategy, 1
        # those of this process
        self._local = [0]
        if strategy is not None:
            self.number = int(strategy.num_replicas_in_sync)
            self._local = [int(one) for one in self._each_local(lambda replica: replica)]
        # by dtype and rank
        self._gather: dict[tuple, Callable] = {}

    @property
    def are_processes(self) -> bool:
        """Whether there are replicas in other processes."""
        return len(self._local) < self.number

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what they share."""
        return self._local[0] == 0

    def rounds(self, items: Iterable[Any]) -> Iterator[list[Any]]:
        """The items, as many at a time as there are replicas."""
        iterator = iter(items)
        while one := list(itertools.islice(iterator, self.number)):
            yield one

    def graph(
        self, function: Callable[..., tf.Tensor], specs: Sequence[tf.TensorSpec]
    ) -> Callable[[Sequence[tuple]], np.ndarray]:
        """
        A function of tensors that gives one, as a graph that all replicas run at once.

        It is given a tuple of tensors for each replica, and gives their results one after the other
        along the first axis.
        """
        if self.strategy is None:
            graph = tf.function(function).get_concrete_function(*specs)
            return lambda items: graph(*items[0]).numpy()
        run = self.strategy.run

        def replica(*tensors):
            # of that device, even where the function gives an argument
            found = tf.identity(function(*tensors))
            return self._gathered(found) if self.are_processes else found

        def all_replicas(*several):
            arguments = [self._distributed(dict(zip(self._local, parts))) for parts in several]
            return run(replica, args=arguments)

        own = [[spec] * len(self._local) for spec in specs]
        graph = tf.function(all_replicas).get_concrete_function(*own)

        def call(items: Sequence[tuple]) -> np.ndarray:
            # of each argument those of this process
            several = [[items[place][k] for place in self._local] for k in range(len(specs))]
            return self._found(self._or_say_who_is_lost(graph, *several))

        return call

    def each(self, function: Callable[[Any], Any], items: Sequence[Any]) -> np.ndarray:
        """What a function gives for the item of each replica, one after the other, run eagerly."""
        return self.gathered([np.asarray(function(items[replica])) for replica in self._local])

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """
        What a function gives for each item, of the same shape each, run eagerly.

        Of one device as it is, of several as arrays. Replicas of one process take turns in Python,
        and work at once where devices do.
        """
        if self.number == 1:
            return [function(item) for item in items]
        found: list[np.ndarray] = []
        for several in self.rounds(items):
            # none goes without
            padded = several + several[-1:] * (self.number - len(several))

            def of_replica(replica: int, padded: list[Any] = padded) -> Any:
                return function(padded[replica])

            own = [part.numpy()[np.newaxis] for part in self._each_local(of_replica)]
            found += list(self.gathered(own))[: len(several)]
        return found

    def gathered(self, own: Sequence[np.ndarray]) -> np.ndarray:
        """Arrays of all replicas, one after the other, from those of this process."""
        if not self.are_processes:
            return np.concatenate(own)
        key = own[0].dtype, own[0].ndim
        if key not in self._gather:
            spec = tf.TensorSpec([None] * own[0].ndim, own[0].dtype)
            self._gather[key] = self.graph(lambda values: values, [spec])
        places = dict(zip(self._local, own))
        # those of other processes are not looked at
        return self._gather[key](
            [(tf.constant(places.get(i, own[0])),) for i in range(self.number)]
        )

    def agree(self, wish: bool) -> bool:
        """Whether a process wishes it: processes look at clocks and callbacks of their own."""
        if not self.are_processes:
            return wish
        return bool(self.gathered([np.array([wish], np.int32)] * len(self._local)).any())

    def check_same(self, what: str, *values: Any) -> None:
        """Raise a ValueError unless the values, arrays or text, are the same in all processes."""
        if not self.are_processes:
            return
        checksum = 0
        for value in values:
            data = value.encode() if isinstance(value, str) else np.ascontiguousarray(value).data
            checksum = zlib.crc32(data, checksum)
        own = np.array([checksum], np.int64)
        if len(np.unique(self.gathered([own] * len(self._local)))) > 1:
            raise ValueError(
                f"The processes of the strategy differ in {what}. Each must run the same program "
                "with the same data in the same order, unsharded: they share out the passes "
                "themselves."
            )

    def _each_local(self, function: Callable[[int], Any]) -> list[Any]:
        """What a function of the number of a replica gives on each one of this process."""
        assert self.strategy is not None

        def replica() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return tf.convert_to_tensor(function(int(context.replica_id_in_sync_group)))

        with _without_advice():
            return list(self.strategy.experimental_local_results(self.strategy.run(replica)))

    def _distributed(self, parts: Mapping[int, tf.Tensor]) -> Any:
        """A tensor for each replica of this process."""
        assert self.strategy is not None
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: parts[int(context.replica_id_in_sync_group)]
        )

    def _gathered(self, found: tf.Tensor) -> tf.Tensor:
        return tf.distribute.get_replica_context().all_gather(found, axis=0)

    def _found(self, results: Any) -> np.ndarray:
        """What all replicas gave, one after the other."""
        assert self.strategy is not None
        several = self.strategy.experimental_local_results(results)
        # each replica has gathered what all gave
        return np.concatenate([one.numpy() for one in several[: 1 if self.are_processes else None]])

    def _or_say_who_is_lost(self, function: Callable, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except _LOST as error:
            if not self.are_processes:
                raise
            raise LostProcessError(
                f"A process of the strategy does not answer any more, so the one with replica "
                f"{self._local[0]} of {self.number} stops too. Look at the output of the others; "
                "then start all again. With a checkpoint (a search) or a folder (a benchmark) they "
                "go on from there, with any number of replicas."
            ) from error


@contextmanager
def _without_advice() -> Iterator[None]:
    """TensorFlow advises a graph where there can be none: explainers are called eagerly."""

    def is_other(record: logging.LogRecord) -> bool:
        return "eagerly has significant overhead" not in record.getMessage()

    logger = tf.get_logger()
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)
