"""
A search as Keras' callbacks see it: each round is an epoch, each part of it a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras

from ._loop import Progress
from .racing import Request


class _Bystander(keras.Model):
    """What Keras callbacks get for a model during a search: only `stop_training` matters."""


class KerasObserver:
    """
    Tells callbacks of Keras of a search, and stops it where one sets `model.stop_training`.

    Parameters
    ----------
    callbacks
        Callbacks of Keras.
    verbose
        As in `keras.Model.fit`.
    nb_rounds
        Number of rounds at most, before any that refine or top up.
    to_logs
        Function that gives the logs of an epoch.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
        nb_rounds: int,
        to_logs: Callable[[Progress], dict[str, float]],
    ):
        self._bystander = _Bystander()
        self._bystander.stop_training, self._bystander.optimizer = False, None
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks),
            add_progbar=verbose > 0,
            model=self._bystander,
            verbose=verbose,
            epochs=1,
            steps=1,
        )
        self._verbose, self._nb_rounds, self._to_logs = verbose, nb_rounds, to_logs
        self._epoch, self._step = -1, 0

    def __enter__(self) -> KerasObserver:
        self._callbacks.on_train_begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._callbacks.on_train_end()

    def round_begins(self, request: Request, nb_parts: int) -> None:
        """Begin an epoch of so many batches."""
        self._bystander.stop_training = False
        self._epoch, self._step = self._epoch + 1, 0
        nb_epochs = max(self._nb_rounds, self._epoch + 1)
        self._callbacks.set_params(
            {"verbose": self._verbose, "epochs": nb_epochs, "steps": nb_parts}
        )
        self._callbacks.on_epoch_begin(self._epoch)

    def part_ends(self) -> bool:
        """One more batch."""
        self._callbacks.on_train_batch_begin(self._step)
        self._callbacks.on_train_batch_end(self._step)
        self._step += 1
        return bool(self._bystander.stop_training)

    def round_ends(self, progress: Progress) -> bool:
        """End the epoch, with its logs."""
        self._callbacks.on_epoch_end(self._epoch, self._to_logs(progress))
        return bool(self._bystander.stop_training)

    def aside(self, name: str, nb_parts: int) -> Callable[[], bool]:
        """No epoch to the callbacks: a progress bar alone."""
        if self._verbose:
            print(name.capitalize())
        bar = keras.utils.Progbar(nb_parts, verbose=self._verbose)

        def advance() -> bool:
            bar.add(1)
            return False

        return advance
