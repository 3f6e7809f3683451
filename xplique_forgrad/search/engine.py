"""
The search loop: explain, filter and score groups of images, round by round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .._samples import Samples
from ..filtering import full_band_sigma
from .candidates import Candidate, filtered_maps, neighbours
from .objectives import Objectives
from .racing import Race, split_images
from .result import SigmaSearch
from .seeds import repeatable
from .state import SearchState
from .statistics import best_index, cross_fitted

# a group of images is scored at once: so many numbers in its maps, and so many images, at most
_GROUP_VALUES = 2**24
_GROUP_IMAGES = 64
# explainers are traced anew for each number of images, so they always get this one
_EXPLAINED = 8


class _Bystander(keras.Model):
    """What Keras callbacks get for a model during a search: only `stop_training` matters."""


class NothingToChooseError(ValueError):
    """No candidate has scores that are numbers."""


class Engine:
    """
    One search.

    Parameters
    ----------
    explain
        Function of positions, inputs and targets that gives explanations of shape (B, ...).
    samples
        Inputs and targets.
    candidates
        What to compare, the raw map first.
    objectives
        What to score.
    axes
        Axes to filter along.
    options
        Settings of the search: strategy, tolerance, z, seed, refine.
    callbacks
        Callbacks of Keras.
    verbose
        As in `keras.Model.fit`.
    checkpoint
        File to resume from and to write after every group, or None.
    identity
        What a checkpoint must agree with.
    """

    def __init__(
        self,
        explain: Callable,
        samples: Samples,
        candidates: Sequence[Candidate],
        objectives: Objectives,
        axes: tuple[int, ...],
        options: dict[str, Any],
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
        checkpoint: Path | None,
        identity: dict[str, Any],
    ):
        self.explain, self.samples, self.axes = explain, samples, axes
        self.candidates = list(candidates)
        self.objectives, self.options = objectives, options
        self.identity = identity
        self.spatial = [samples.shape[axis - 1] for axis in axes]

        self.state = SearchState(
            list(objectives.weights), len(self.candidates), len(samples), checkpoint, identity
        )

        sizes = samples.shape[:-1] if len(samples.shape) > 2 else samples.shape
        nb_values = len(self.candidates) * int(np.prod(sizes))
        most = int(np.clip(_GROUP_VALUES // nb_values, 1, _GROUP_IMAGES))
        self.group_size = most - most % _EXPLAINED or most
        self._is_random: bool | None = None
        self.verbose = verbose
        self.bystander = _Bystander()
        self.bystander.stop_training, self.bystander.optimizer = False, None
        self.callbacks = keras.callbacks.CallbackList(
            list(callbacks),
            add_progbar=verbose > 0,
            model=self.bystander,
            verbose=verbose,
            epochs=1,
            steps=1,
        )

    @property
    def utility(self) -> np.ndarray:
        """Scores of the objective with the sign that makes higher better, (K, N)."""
        return self.state.scores[self.objectives.name] * (
            1 if self.objectives.higher_is_better else -1
        )

    def run(self) -> SigmaSearch:
        """Search, and tell the callbacks of each round as of an epoch."""
        nb_images = len(self.samples)
        rounds, held_out = [np.arange(nb_images)], np.arange(0)
        if self.options["strategy"] == "racing":
            rounds, held_out = split_images(nb_images, self.options["seed"])
        nb_epochs = len(rounds) + bool(len(held_out))
        self.callbacks.on_train_begin()
        epoch = 0
        race = Race(len(self.candidates), self.options["tolerance"], self.options["z"])
        raced: list[np.ndarray] = []
        try:
            for epoch, positions in enumerate(rounds):
                raced.append(positions)
                alive = race.alive if len(held_out) else np.arange(len(self.candidates))
                stopped = self._run_round(epoch, nb_epochs, alive, positions)
                seen = np.concatenate(raced)
                seen = seen[self.state.scored[alive][:, seen].all(axis=0)]
                best = best_index(self.utility[alive][:, seen])
                best = int(alive[best]) if best >= 0 else -1
                if len(held_out) and best >= 0:
                    race.update(self.utility[:, seen])
                    best = race.leader
                self._end_round(epoch, best, race.alive if len(held_out) else alive, seen)
                if stopped or self.bystander.stop_training or (len(held_out) and race.is_over):
                    break
            if best < 0:
                self._raise_nothing_to_choose()
            if self.options["refine"]:
                best, epoch = self._refine(best, raced, seen, epoch, nb_epochs)
            best, chosen = self._judge(best, held_out, seen, epoch + 1, nb_epochs)
        finally:
            self.callbacks.on_train_end()
        return SigmaSearch(
            objective=self.objectives.name,
            higher_is_better=self.objectives.higher_is_better,
            candidates=tuple(self.candidates),
            scores=self.state.scores[self.objectives.name],
            others={n: s for n, s in self.state.scores.items() if n != self.objectives.name},
            halves=self.state.halves,
            scored=self.state.scored,
            best=best,
            held_out=chosen,
            nb_evaluations=self.state.nb_evaluations,
            settings={
                **self.identity,
                "full_band": full_band_sigma(self.spatial),
                "strategy": "racing" if len(held_out) else "exhaustive",
            },
        )

    def _judge(
        self, best: int, held_out: np.ndarray, seen: np.ndarray, epoch: int, nb_epochs: int
    ) -> tuple[int, np.ndarray]:
        """The best, and for each image the candidate that was chosen without it, or -1."""
        chosen = np.full(len(self.samples), -1)
        if not len(held_out):
            utility = self.utility[:, seen]
            known = ~np.isnan(utility).all(axis=0)
            chosen[seen[known]] = cross_fitted(utility[:, known], self.options["seed"])
            return best, chosen
        unfiltered = [i for i, c in enumerate(self.candidates) if not c.is_filter]
        failing: list[int] = []
        while True:
            judged = np.unique([best, *failing, *unfiltered])
            self.bystander.stop_training = False
            self._run_round(epoch, nb_epochs, judged, held_out)
            self._end_round(epoch, best, judged, held_out)
            utility = self.utility[judged][:, held_out]
            # NaN where another has none
            failed = np.isnan(utility).any(axis=1) & ~np.isnan(utility).any(axis=1).all()
            if not failed[np.flatnonzero(judged == best)[0]]:
                break
            failing.append(best)
            complete = self.state.scored[:, seen].all(axis=1) & ~np.isnan(
                self.utility[:, seen]
            ).any(axis=1)
            complete[failing] = False
            if not complete.any():
                self._raise_nothing_to_choose()
            left = np.flatnonzero(complete)
            best, epoch = int(left[best_index(self.utility[left][:, seen])]), epoch + 1
        chosen[held_out[self.state.scored[best, held_out]]] = best
        return best, chosen

    def _raise_nothing_to_choose(self) -> None:
        raise NothingToChooseError(
            "The model gives NaN for every candidate on too many images to choose one. Look at its "
            f"outputs for these inputs, and for the baseline {self.identity['baseline_mode']}."
        )

    def _refine(
        self, best: int, raced: list[np.ndarray], seen: np.ndarray, epoch: int, nb_epochs: int
    ) -> tuple[int, int]:
        """Score cutoffs around the best until the integers beside it are scored."""
        while self.candidates[best].is_filter and not self.bystander.stop_training:
            sigma, window, rectify = self.candidates[best]
            scored = [c.sigma for c in self.candidates if c[1:] == (window, rectify)]
            tried = [s for s in scored if s is not None]
            new = neighbours(sigma or 1.0, tried, full_band_sigma(self.spatial))
            if not new:
                break
            indices = np.arange(len(self.candidates), len(self.candidates) + len(new))
            self.candidates += [Candidate(value, window, rectify) for value in new]
            self.state.grow(len(new))
            epoch += 1
            for positions in raced:
                # the groups of the race, so that the explanations are the same
                part = np.intersect1d(positions, seen)
                tell = positions is raced[0]
                if len(part) and self._run_round(epoch, nb_epochs, indices, part, tell):
                    return best, epoch
            among = np.array([best, *indices])
            found = best_index(self.utility[among][:, seen])
            best = int(among[found]) if found >= 0 else best
            self._end_round(epoch, best, among, seen)
        return best, epoch

    def _run_round(
        self, epoch: int, nb_epochs: int, indices: np.ndarray, positions: np.ndarray, tell=True
    ) -> bool:
        """Score candidates on images, group by group; True if a callback stopped it."""
        groups = [
            positions[start : start + self.group_size]
            for start in range(0, len(positions), self.group_size)
        ]
        is_done = [self.state.scored[np.ix_(indices, group)].all() for group in groups]
        if tell:
            self.callbacks.set_params(
                {"verbose": self.verbose, "epochs": max(nb_epochs, epoch + 1), "steps": len(groups)}
            )
            self.callbacks.on_epoch_begin(epoch)
        remaining = self._batches([group for group, done in zip(groups, is_done) if not done])
        for step, done in enumerate(is_done):
            if tell:
                self.callbacks.on_train_batch_begin(step)
            if not done:
                self._score_group(indices, *next(remaining))
            if tell:
                self.callbacks.on_train_batch_end(step)
            if self.bystander.stop_training:
                return True
        return False

    def _batches(self, groups: list[np.ndarray]) -> Iterator[tuple]:
        if groups:
            # all groups but the last of a round have the same size, so the batches are the groups
            yield from self.samples.batches(self.group_size, np.concatenate(groups))

    def _score_group(self, indices, positions, inputs, targets) -> None:
        explanations = self._explained(positions, inputs, targets)
        bad = ~np.isfinite(explanations.astype(np.float64)).reshape(len(positions), -1).all(axis=1)
        if bad.any():
            raise ValueError(
                f"The explanation of image {positions[np.argmax(bad)]} holds NaN or infinite "
                "values. Look at the model's outputs and gradients for it, or drop it."
            )
        maps = filtered_maps(explanations, [self.candidates[i] for i in indices], self.axes)
        # the rectified map of a method without sign is its raw map
        first = np.arange(len(indices))
        unfiltered = [k for k, i in enumerate(indices) if not self.candidates[i].is_filter]
        for position, k in enumerate(unfiltered):
            same = [j for j in unfiltered[:position] if np.array_equal(maps[j], maps[k])]
            first[k] = same[0] if same else k
        distinct, back = np.unique(first, return_inverse=True)
        before = self.objectives.nb_evaluations
        found = self.objectives.score(positions, inputs, targets, maps[distinct])
        nb_evaluations = self.objectives.nb_evaluations - before
        found = {name: values[:, back] for name, values in found.items()}
        self.state.add(indices, positions, found, self.objectives.name, nb_evaluations)

    def _explained(self, positions, inputs, targets) -> np.ndarray:
        """Explanations of a group, the same each time it is asked about."""
        size = min(_EXPLAINED, self.group_size)

        def explain(start):
            # the last one is repeated to fill up
            part = np.minimum(np.arange(start, start + size), len(positions) - 1)
            return np.asarray(self.explain(positions[part], inputs[part], targets[part]))

        if self._is_random is None:
            self._is_random = not np.array_equal(explain(0), explain(0))
        starts = range(0, len(positions), size)
        if not self._is_random:
            return np.concatenate([explain(start) for start in starts])[: len(positions)]
        # only if need be: it clears the kernels of TensorFlow, half a second to load again
        with repeatable((self.options["seed"] * 1_000_003 + int(positions[0])) % (2**31 - 1)):
            return np.concatenate([explain(start) for start in starts])[: len(positions)]

    def _end_round(self, epoch: int, best: int, alive: np.ndarray, seen: np.ndarray) -> None:
        sigma, score = float("nan"), float("nan")
        if best >= 0:
            sigma = self.candidates[best].sigma or full_band_sigma(self.spatial)
            scores = self.state.scores[self.objectives.name][best, seen]
            score = float(np.nanmean(scores))
        logs = {
            self.objectives.name: score,
            "sigma": sigma,
            "nb_candidates": len(alive),
            "nb_images": len(seen),
        }
        self.callbacks.on_epoch_end(epoch, logs)
