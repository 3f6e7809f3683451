"""
Which candidates a search scores next, on which images, with which perturbation steps.

Nothing here knows of images, models or files: a race is asked for requests and told scores, by the
search as by the simulations in the tests.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from .._statistics import standard_error
from ._gains import best_index, cross_fitted

# images of the first round, and how many times as many were seen after each of the next
START = 40
GROWTH = 1.5
# too few images to race on
FEWEST = 48
JUDGING = 0.25
# perturbation steps of each image in a race, before it is topped up
NB_STEPS = 2
# a race without images left is topped up while a rival may be so many tolerances ahead
TOP_UP = 2.0
# images of a round come in multiples of this
_MULTIPLE = 8


class Request(NamedTuple):
    """
    What to score next.

    Attributes
    ----------
    candidates
        Indices of the candidates, of shape (k,).
    images
        Positions of the images, of shape (n,), each scored for every one of the candidates.
    steps
        Which perturbation steps, as a slice of each image's own order, see `StepOrder`.
    purpose
        "race", "top up", "refine" or "judge"; "control" for what a search asks for after its race.
    """

    candidates: np.ndarray
    images: np.ndarray
    steps: slice
    purpose: str


class StepOrder:
    """
    The order in which perturbation steps of each image are taken, at random but spread out.

    A van der Corput sequence over the S steps, shifted cyclically by a random number for each
    image: its first s steps lie in different strata of the curve, all candidates share them, and
    each step is equally likely to be among them, so that the mean over them estimates the mean over
    all steps without bias.

    Parameters
    ----------
    nb_steps
        Number S of steps.
    nb_images
        Number of images N.
    seed
        Seed of the shifts.

    Examples
    --------
    >>> StepOrder(nb_steps=9, nb_images=100, seed=0).of(np.arange(100), slice(0, 2)).shape
    (100, 2)
    """

    def __init__(self, nb_steps: int, nb_images: int, seed: int):
        nb_bits = max(1, nb_steps - 1).bit_length() + 1
        numbers = np.arange(2**nb_bits)
        # bits in reverse, as fractions of 1
        fractions = sum(((numbers >> bit) & 1) / 2 ** (bit + 1) for bit in range(nb_bits))
        places = np.floor(nb_steps * np.asarray(fractions)).astype(int)
        _, first = np.unique(places, return_index=True)
        self._base = places[np.sort(first)]
        self._shifts = np.random.default_rng((seed, 1)).integers(nb_steps, size=nb_images)
        self.nb_steps = nb_steps

    def of(self, images: np.ndarray, ranks: slice) -> np.ndarray:
        """
        Which steps are taken at which places in the order.

        Parameters
        ----------
        images
            Positions of n images.
        ranks
            Places in the order, such as `slice(0, 2)` for the first two steps of each image.

        Returns
        -------
        steps :
            Numbers of the steps, of shape (n, number of ranks).
        """
        return (self._base[ranks] + self._shifts[images][:, np.newaxis]) % self.nb_steps


def split_images(nb_images: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """
    Images of each round of a race, and those that judge its winner, in seeded random order.

    Parameters
    ----------
    nb_images
        Number of images.
    seed
        Seed of the order.

    Returns
    -------
    rounds :
        Positions of each round: 40 images, then about half as many again as were seen before, and
        at the end those that are too few for a round. One round of all images where there are fewer
        than 48: too few to race.
    judging :
        Positions of a quarter of the images, held out of the race to judge its winner; none where
        there is no race.
    """
    if nb_images < FEWEST:
        return [np.arange(nb_images)], np.arange(0)
    order = np.random.default_rng(seed).permutation(nb_images)
    nb_raced = nb_images - round(JUDGING * nb_images)
    bounds, bound = [0], START
    while nb_raced - bound >= _MULTIPLE:
        bounds.append(bound)
        bound = _MULTIPLE * int(np.ceil(GROWTH * bound / _MULTIPLE))
    bounds.append(nb_raced)
    rounds = [np.sort(order[low:high]) for low, high in itertools.pairwise(bounds)]
    return rounds, np.sort(order[nb_raced:])


class Race:
    """
    Drops candidates by paired comparisons with the leader, the one of highest mean so far.

    `ask` gives the next request, `tell` takes its scores. The first rounds look at more and more
    images with few perturbation steps each: paired differences of candidates vary more from image
    to image than from step to step, so that passes of the model decide most if they are spread
    over images. When the images are used up, the leader and the rivals that may still be more than
    twice the tolerance ahead are topped up: more steps of all images. At last the winner and the
    unfiltered maps are scored with all steps on a quarter of the images that was held out. Without
    a race, all candidates are scored with all steps on all images at once.

    A candidate is dropped when the upper bound u = mean + t * standard error of its paired
    differences from the leader is below 0: it is worse; or when u is within the tolerance: it is no
    better than the leader by more than that. What was dropped is remembered: a leader that has
    absorbed others within u_1, u_2, ... must itself be within `tolerance - max(u)` of the one that
    absorbs it, and one that beats it takes over what is left of its debt. So tolerances never add
    up: the winner is within the tolerance of every candidate if no comparison errs, and within
    twice the tolerance where the images are used up.

    t is the quantile of Student's distribution that leaves as much above as z does in the normal
    one, so a comparison errs with a probability of 2.3 % for z = 2. By the union bound over pairs
    of candidates and rounds, the winner is truly worse than the best by more than the tolerance
    with a probability of at most K * (K - 1) * rounds times that: 0.1 % for z = 5, 22 candidates
    and 8 rounds, if the race does not run out of images and the t-tests hold. For z = 2, the
    default, this is no bound at all, and it rests on simulations: in less than 5 % of races the
    winner lies further than the tolerance below the best of an exhaustive search on the same
    images (`tests/test_racing.py`).

    Ref. Maron & Moore, Hoeffding Races (1993), whose bounds hold for any bounded score and are far
    wider than those of Student's distribution here; Birattari & al., A Racing Algorithm for
    Configuring Metaheuristics (2002), F-Race, which drops by ranks within blocks, as the images
    are here, and knows no tolerance; Jamieson & Talwalkar, Non-stochastic Best Arm Identification
    (2016), successive halving, which drops a fixed share each round whether or not the data
    tell. None of them samples within a block, as perturbation steps are sampled here.

    Parameters
    ----------
    nb_candidates
        Number of candidates K.
    nb_images
        Number of images N.
    nb_steps
        Number S of perturbation steps that a score is the mean of; 1 if it cannot be estimated
        from some of them.
    tolerance
        Candidates whose mean scores lie within it count as equal.
    z
        Number of standard errors, of a normal distribution.
    seed
        Seed of the order of images, of their steps, and of folds.
    strategy
        "racing" or "exhaustive"; with fewer than 48 images it is always exhaustive.
    unfiltered
        Indices of the candidates that are judged beside the winner.
    refine
        Function of the index of the best candidate that gives the number of new candidates to
        compare with it, 0 for none; it is asked again until then. None never refines.

    Examples
    --------
    >>> scores = np.random.default_rng(0).normal([[0.1], [0.3], [0.5]], 0.1, size=(3, 100))
    >>> race = Race(nb_candidates=3, nb_images=100)
    >>> while (request := race.ask()) is not None:
    ...     race.tell(request, scores[np.ix_(request.candidates, request.images)])
    >>> race.best
    2
    """

    def __init__(
        self,
        nb_candidates: int,
        nb_images: int,
        nb_steps: int = 1,
        *,
        tolerance: float = 0.01,
        z: float = 2.0,
        seed: int = 0,
        strategy: str = "racing",
        unfiltered: tuple[int, ...] = (0,),
        refine: Callable[[int], int] | None = None,
    ):
        self.tolerance, self.z, self.seed = tolerance, z, seed
        self.unfiltered = np.array(unfiltered, int)
        # images that choose, round by round, and those that judge the choice
        self.rounds, self.judging = [np.arange(nb_images)], np.arange(0)
        if strategy == "racing":
            self.rounds, self.judging = split_images(nb_images, seed)
        self.is_racing = len(self.judging) > 0
        self.steps = StepOrder(max(1, nb_steps), nb_images, seed)
        # the best candidate so far, -1 if none has scores that are numbers
        self.best = -1
        self.alive = np.arange(nb_candidates)
        # images on which all that are alive were scored
        self.seen = np.arange(0)
        self._scores = np.full((nb_candidates, nb_images), np.nan)
        self._scored = np.zeros((nb_candidates, nb_images), bool)
        self._absorbed = np.zeros(nb_candidates)
        self._ahead = np.full(nb_candidates, np.inf)
        self._next_round = 0
        self._depth = min(NB_STEPS, self.steps.nb_steps) if self.is_racing else self.steps.nb_steps
        self._refine = refine
        self._is_stopped = self._is_judged = False
        self._pending: Request | None = None
        self._failing: list[int] = []

    @property
    def groups_of_images(self) -> list[np.ndarray]:
        """Positions of the images that are asked about together, those that judge last."""
        return [*self.rounds, self.judging] if self.is_racing else self.rounds

    def stop(self) -> None:
        """Choose no further: what is left to ask is to judge what is chosen."""
        self._is_stopped, self._pending = True, None

    def ask(self) -> Request | None:
        """
        The next request, the same until it is told.

        Returns
        -------
        request :
            What to score next; None when the race is over and its winner is judged.
        """
        if self._pending is None and not self._is_stopped:
            self._pending = self._ask_to_choose()
        while self._pending is None and self._is_to_be_judged:
            self._is_stopped = True
            missing = [i for i in self._judged if not self._scored[i, self.judging].any()]
            if missing:
                steps = slice(0, self.steps.nb_steps)
                self._pending = self._request(missing, self.judging, steps, "judge")
            else:
                self._judge(self.judging)
        return self._pending

    @property
    def _is_to_be_judged(self) -> bool:
        return self.is_racing and self.best >= 0 and not self._is_judged

    @property
    def _judged(self) -> np.ndarray:
        """The winner, those that won before it and failed, and the unfiltered maps."""
        return np.unique([self.best, *self._failing, *self.unfiltered])

    def _ask_to_choose(self) -> Request | None:
        is_decided = self.is_racing and len(self.alive) <= 1
        if self._next_round < len(self.rounds) and not is_decided:
            images = self.rounds[self._next_round]
            self._next_round += 1
            return self._request(self.alive, images, slice(0, self._depth), "race")
        nb_steps, depth = self.steps.nb_steps, self._depth
        # how far ahead of the leader each may be
        close = self.alive[(self._ahead > TOP_UP * self.tolerance) | (self.alive == self.best)]
        if not is_decided and len(close) > 1 and depth < nb_steps and self.best >= 0:
            # the others are close enough, which binds the leader from now on
            self._absorbed[self.best] = max(
                self._absorbed[self.best], self._ahead[~np.isin(self.alive, close)].max(initial=0.0)
            )
            self.alive, self._ahead = close, self._ahead[np.isin(self.alive, close)]
            self._depth = min(nb_steps, depth + max(NB_STEPS, nb_steps // 4))
            return self._request(self.alive, self.seen, slice(depth, self._depth), "top up")
        number = 0 if self._refine is None or self.best < 0 else self._refine(self.best)
        if not number:
            return None
        first, nb_images = self._scores.shape
        self._scores = np.concatenate([self._scores, np.full((number, nb_images), np.nan)])
        self._scored = np.concatenate([self._scored, np.zeros((number, nb_images), bool)])
        self._absorbed = np.concatenate([self._absorbed, np.zeros(number)])
        new = np.arange(first, first + number)
        return self._request(new, self.seen, slice(0, self._depth), "refine")

    @staticmethod
    def _request(candidates, images, steps, purpose) -> Request:
        return Request(np.array(candidates), np.array(images), steps, purpose)

    def tell(self, request: Request, scores: np.ndarray) -> None:
        """
        Take the scores of a request, and drop candidates.

        Parameters
        ----------
        request
            What `ask` gave, or a part of it: fewer images, where scoring was stopped.
        scores
            Scores of shape (k, n), higher is better, from all steps of an image that were asked for
            so far. A candidate with NaN where another has none is dropped: NaN never wins. An image
            without any score is left out.
        """
        self._pending = None
        where = np.ix_(request.candidates, request.images)
        self._scores[where] = scores
        self._scored[where] = True
        if request.purpose == "judge":
            self._judge(request.images)
        elif request.purpose == "refine":
            among = np.array([self.best, *request.candidates])
            found = best_index(self._scores[among][:, self.seen])
            self.best = int(among[found]) if found >= 0 else self.best
        else:
            self.seen = np.union1d(self.seen, request.images).astype(int)
            self._compare()

    def _compare(self) -> None:
        """Find the leader, and drop candidates if this is a race."""
        scores = self._scores[self.alive][:, self.seen]
        best = best_index(scores)
        self.best = int(self.alive[best]) if best >= 0 else -1
        if not self.is_racing or self.best < 0:
            return
        scores = scores[:, ~np.isnan(scores).all(axis=0)]
        valid = ~np.isnan(scores).any(axis=1)
        if not valid.any():
            scores = scores[:, ~np.isnan(scores).any(axis=0)]
            valid[:] = True
        self.alive, scores = self.alive[valid], scores[valid]
        self._ahead = np.full(len(self.alive), np.inf)
        leader = int(np.flatnonzero(self.alive == self.best)[0])
        nb_images = scores.shape[1]
        if nb_images < 2:
            return
        differences = scores - scores[leader]
        errors = standard_error(differences)
        quantile = stats.t.isf(stats.norm.sf(self.z), nb_images - 1)
        upper = differences.mean(axis=1)
        upper[errors > 0] += quantile * errors[errors > 0]
        debts = upper + self._absorbed[self.alive]
        dropped = (upper < 0) | (debts <= self.tolerance)
        dropped[leader] = False
        if dropped.any():
            self._absorbed[self.best] = max(self._absorbed[self.best], debts[dropped].max())
        self.alive, self._ahead = self.alive[~dropped], debts[~dropped]

    def _judge(self, images: np.ndarray) -> None:
        """Keep the winner, or choose another where it fails on images held out."""
        is_nan = np.isnan(self._scores[self._judged][:, images]).any(axis=1)
        # NaN where another has none
        failed = self._judged[is_nan & ~is_nan.all()]
        self._is_judged = self.best not in failed
        if self._is_judged:
            return
        self._failing.append(self.best)
        seen = self._scores[:, self.seen]
        complete = self._scored[:, self.seen].all(axis=1) & ~np.isnan(seen).any(axis=1)
        complete[self._failing] = False
        left = np.flatnonzero(complete)
        self.best = int(left[best_index(seen[left])]) if len(left) else -1

    def chosen_without(self) -> np.ndarray:
        """For each image, the candidate that was chosen without it, or -1, of shape (N,)."""
        chosen = np.full(self._scores.shape[1], -1)
        if self.is_racing:
            chosen[self.judging[self._scored[self.best, self.judging]]] = self.best
            return chosen
        scores = self._scores[:, self.seen]
        known = ~np.isnan(scores).all(axis=0)
        chosen[self.seen[known]] = cross_fitted(scores[:, known], self.seed)
        return chosen
