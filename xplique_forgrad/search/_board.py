"""
The scores of a search so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Block(NamedTuple):
    """
    Scores of some candidates on some images, from some perturbation steps.

    Parameters
    ----------
    candidates
        Indices of k candidates.
    images
        Positions of n images.
    steps
        First rank of the steps, and the rank after the last, see `StepOrder`.
    values
        Scores of the objective, its two halves and the other objectives, of shape (3 + others, k,
        n); or (3 + others, k, 1) for an objective that gave one score to all images together.
    nb_evaluations
        Number of inputs that the model was given for them.
    is_control
        Whether they are scores of the control's maps.
    """

    candidates: np.ndarray
    images: np.ndarray
    steps: tuple[int, int]
    values: np.ndarray
    nb_evaluations: int
    is_control: bool = False


class Scoreboard:
    """
    Scores of K candidates on N images, NaN where there is none.

    Parameters
    ----------
    others
        Names of the objectives beside the main one.
    nb_candidates
        Number of candidates K.
    nb_images
        Number of images N.
    """

    def __init__(self, others: Sequence[str], nb_candidates: int, nb_images: int):
        self.others = tuple(others)
        self.nb_evaluations = 0
        # whether the objective gave one score to all images together
        self.is_scalar = False
        self._values = np.full((3 + len(others), nb_candidates, nb_images), np.nan)
        # number of perturbation steps that a score is the mean of so far
        self._nb_steps = np.zeros((nb_candidates, nb_images), np.int32)

    def grow(self, number: int) -> None:
        """Make room for more candidates."""
        rows = np.full((len(self._values), number, self._values.shape[2]), np.nan)
        self._values = np.concatenate([self._values, rows], axis=1)
        self._nb_steps = np.concatenate([self._nb_steps, np.zeros(rows.shape[1:], np.int32)])

    def add(self, block: Block) -> None:
        """Add scores: the mean over steps goes on over those that are new."""
        where = np.ix_(block.candidates, block.images)
        first, last = block.steps
        self.is_scalar |= block.values.shape[2] < len(block.images)
        shape = (len(block.values), len(block.candidates), len(block.images))
        new = np.broadcast_to(block.values, shape)
        known = self._values[:, block.candidates[:, np.newaxis], block.images]
        number = self._nb_steps[where]
        merged = (number * known + (last - first) * new) / (number + last - first)
        # halves, and others that are not means over the same steps, keep what they have
        merged[1:] = np.where(np.isnan(new[1:]), known[1:], merged[1:])
        for measure, scores in zip(self._values, np.where(number == 0, new, merged)):
            measure[where] = scores
        self._nb_steps[where] = last
        self.nb_evaluations += block.nb_evaluations

    def has(self, candidates: np.ndarray, images: np.ndarray, last: int) -> np.ndarray:
        """Which images have the scores of all these candidates up to this step, of shape (n,)."""
        return (self._nb_steps[np.ix_(candidates, images)] >= last).all(axis=0)

    @property
    def scores(self) -> np.ndarray:
        """Scores of the objective, of shape (K, N)."""
        return self._values[0]

    @property
    def halves(self) -> np.ndarray:
        """Estimates of them from each half of the steps, of shape (2, K, N)."""
        return self._values[1:3]

    @property
    def scored(self) -> np.ndarray:
        """Which images each candidate was scored on, of shape (K, N)."""
        return self._nb_steps > 0

    @property
    def other_scores(self) -> dict[str, np.ndarray]:
        """Scores of the other objectives, of shape (K, N)."""
        return dict(zip(self.others, self._values[3:]))
