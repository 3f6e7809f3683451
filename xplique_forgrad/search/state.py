"""
The scores of a search so far, and their checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import load_checkpoint, save_checkpoint


class SearchState:
    """
    Scores of K candidates on N images, NaN where there is none.

    Parameters
    ----------
    names
        Names of the objectives.
    nb_candidates
        Number of candidates K.
    nb_images
        Number of images N.
    checkpoint
        File to resume from and to write after every addition, or None.
    identity
        What a checkpoint must agree with.
    """

    def __init__(
        self,
        names: Sequence[str],
        nb_candidates: int,
        nb_images: int,
        checkpoint: Path | None,
        identity: Mapping[str, Any],
    ):
        self.scores = {name: _nan(nb_candidates, nb_images) for name in names}
        self.halves = _nan(2, nb_candidates, nb_images)
        self.scored = np.zeros((nb_candidates, nb_images), bool)
        self.nb_evaluations = 0
        self._checkpoint, self._identity = checkpoint, identity
        self._stored = None if checkpoint is None else load_checkpoint(checkpoint, identity)
        if self._stored is not None:
            self.nb_evaluations = int(self._stored["nb_evaluations"])
        self._restore()

    def grow(self, number: int) -> None:
        """Make room for more candidates, with what the checkpoint holds of them."""
        nb_images = self.scored.shape[1]
        for name, scores in self.scores.items():
            self.scores[name] = np.concatenate([scores, _nan(number, nb_images)])
        self.halves = np.concatenate([self.halves, _nan(2, number, nb_images)], axis=1)
        self.scored = np.concatenate([self.scored, np.zeros((number, nb_images), bool)])
        self._restore()

    def add(
        self,
        indices: np.ndarray,
        positions: np.ndarray,
        found: Mapping[str, np.ndarray],
        name: str,
        nb_evaluations: int,
    ) -> None:
        """
        Keep scores of candidates on images, and write the checkpoint.

        `found` holds the score and its two halves for each objective, of shape (3, candidates,
        images); the halves of the objective `name` are kept.
        """
        where = np.ix_(indices, positions)
        for other, values in found.items():
            finite = np.where(np.isfinite(values), values, np.nan)
            self.scores[other][where] = finite[0]
            if other == name:
                for half, part in zip(self.halves, finite[1:]):
                    half[where] = part
        self.scored[where] = True
        self.nb_evaluations += nb_evaluations
        if self._checkpoint is not None:
            arrays = {f"scores_{index}": s for index, s in enumerate(self.scores.values())}
            arrays |= {"halves": self.halves, "scored": self.scored}
            arrays["nb_evaluations"] = np.array(self.nb_evaluations)
            save_checkpoint(self._checkpoint, self._identity, arrays)

    def _restore(self) -> None:
        """Take from the checkpoint what it holds of the candidates that there are by now."""
        if self._stored is None:
            return
        number = min(len(self.scored), len(self._stored["scored"]))
        scored = self._stored["scored"][:number] & ~self.scored[:number]
        for index, scores in enumerate(self.scores.values()):
            scores[:number][scored] = self._stored[f"scores_{index}"][:number][scored]
        self.halves[:, :number][:, scored] = self._stored["halves"][:, :number][:, scored]
        self.scored[:number] |= scored


def _nan(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan)
