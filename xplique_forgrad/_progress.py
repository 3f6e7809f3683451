"""
How far long work has come, shown as Keras does.
"""

from __future__ import annotations

import numbers
import sys

import keras


def checked_verbose(verbose: int | str) -> int:
    """0, 1 or 2 of `keras.Model.fit`; "auto" is 1 on a terminal and in a notebook, else 2."""
    if isinstance(verbose, str) and verbose == "auto":
        return 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2
    if isinstance(verbose, numbers.Integral) and 0 <= verbose <= 2:
        return int(verbose)
    raise ValueError(
        f"`verbose` is {verbose!r}; give 0 for silence, 1 for a progress bar, 2 for lines, or "
        "'auto'."
    )


class Progress:
    """
    Shows work of some parts: a bar over all of them, a line for each, or nothing.

    Parameters
    ----------
    nb_batches
        Number of batches in all parts.
    verbose
        0, 1 or 2, see `checked_verbose`.
    """

    def __init__(self, nb_batches: int, verbose: int):
        self._bar = keras.utils.Progbar(nb_batches, verbose=verbose, unit_name="batch")
        self._nb_batches, self._nb_done, self._verbose = nb_batches, 0, verbose

    def begin(self, part: str) -> None:
        """Name the part that begins; the bar appears with the first."""
        if self._verbose == 2:
            print(f"{self._nb_done}/{self._nb_batches} {part} ...", flush=True)
        elif not self._nb_done:
            self._bar.update(0)

    def step(self, nb_batches: int = 1) -> None:
        """So many more batches are done."""
        self._nb_done += nb_batches
        self._bar.update(self._nb_done)
