"""
Which images a search scores, and which candidates it drops.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import stats

START = 24
GROWTH = 1.5
HELD_OUT = 0.25
# images of a round come in multiples of this
_STEP = 8


def split_images(nb_images: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """
    Images of each round of a race, and those held out of it, in seeded random order.

    Parameters
    ----------
    nb_images
        Number of images.
    seed
        Seed of the order.

    Returns
    -------
    rounds
        Positions of each round: 24 images, then about half as many again as were seen before. One
        round of all images where there are fewer than 48: too few to race.
    held_out
        Positions of a quarter of the images, to judge the winner; none where there is no race.
    """
    if nb_images < 2 * START:
        return [np.arange(nb_images)], np.arange(0)
    order = np.random.default_rng(seed).permutation(nb_images)
    nb_raced = nb_images - round(HELD_OUT * nb_images)
    bounds = [0, START]
    while bounds[-1] < nb_raced:
        bounds.append(min(nb_raced, _STEP * int(np.ceil(GROWTH * bounds[-1] / _STEP))))
    rounds = [np.sort(order[low:high]) for low, high in itertools.pairwise(bounds)]
    return rounds, np.sort(order[nb_raced:])


class Race:
    """
    Drops candidates by paired comparisons with the leader, the one of highest mean so far.

    A candidate is dropped when the upper bound u = mean + t * standard error of its paired
    differences from the leader is below 0: it is worse; or when u is within the tolerance: it is no
    better than the leader by more than that. What was dropped is remembered: a leader that has
    absorbed others within u_1, u_2, ... must itself be within `tolerance - max(u)` of the one that
    absorbs it, and one that beats it takes over what is left of its debt. So tolerances never add
    up: the winner is within the tolerance of every candidate if no comparison errs.

    t is the quantile of Student's distribution that leaves as much above as z does in the normal
    one, so a comparison errs with a probability of 2.3 % for z = 2. By the union bound over pairs
    of candidates and rounds, the winner is truly worse than the best by more than the tolerance
    with a probability of at most K * (K - 1) * rounds times that: 0.1 % for z = 5, 22 candidates
    and 8 rounds, if the race does not run out of images and the t-tests hold. For z = 2, the
    default, this is no bound at all, and it rests on simulations: in less than 5 % of races the
    winner lies further than the tolerance below the best of an exhaustive search on the same
    images (`tests/test_racing.py`).

    Parameters
    ----------
    nb_candidates
        Number of candidates K.
    tolerance
        Candidates whose mean scores lie within it count as equal.
    z
        Number of standard errors, of a normal distribution.
    """

    def __init__(self, nb_candidates: int, tolerance: float, z: float):
        self.alive = np.arange(nb_candidates)
        self.leader = 0
        self.tolerance = tolerance
        self.z = z
        self._absorbed = np.zeros(nb_candidates)

    @property
    def is_over(self) -> bool:
        """Whether one candidate is left."""
        return len(self.alive) <= 1

    def update(self, scores: np.ndarray) -> None:
        """
        Drop candidates after a round.

        Parameters
        ----------
        scores
            Scores of all K candidates on the images seen so far, of shape (K, n), higher is
            better. A candidate with NaN where another has none is dropped: NaN never wins. An
            image without any score is left out.
        """
        seen = scores[self.alive]
        seen = seen[:, ~np.isnan(seen).all(axis=0)]
        nb_images = seen.shape[1]
        if not nb_images:
            return
        valid = ~np.isnan(seen).any(axis=1)
        if not valid.any():
            seen = seen[:, ~np.isnan(seen).any(axis=0)]
            nb_images = seen.shape[1]
            valid[:] = nb_images > 0
        if not valid.any():
            return
        self.alive, seen = self.alive[valid], seen[valid]
        leader = int(np.argmax(seen.mean(axis=1)))
        self.leader = int(self.alive[leader])
        if nb_images < 2:
            return
        differences = seen - seen[leader]
        errors = differences.std(axis=1, ddof=1) / np.sqrt(nb_images)
        quantile = stats.t.isf(stats.norm.sf(self.z), nb_images - 1)
        upper = differences.mean(axis=1)
        upper[errors > 0] += quantile * errors[errors > 0]
        debts = upper + self._absorbed[self.alive]
        dropped = (upper < 0) | (debts <= self.tolerance)
        dropped[leader] = False
        if dropped.any():
            self._absorbed[self.leader] = max(self._absorbed[self.leader], debts[dropped].max())
        self.alive = self.alive[~dropped]
