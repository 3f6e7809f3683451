"""
The loop of a search: ask the race, explain, filter, score, tell the race.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from .._samples import Batch, Samples
from ..metrics._metric import Steps
from ..metrics._steps import slices
from ._board import Block, Scoreboard
from ._candidates import Candidate, filtered_maps
from ._checkpoint import Journal
from ._panel import Panel
from ._seeds import repeatable
from .racing import Race, Request

# a group of images is explained at once: so many numbers in its maps, and so many images, at most
_GROUP_VALUES = 2**24
_GROUP_IMAGES = 64
# explainers are traced anew for each number of images, so they always get this one
_EXPLAINED = 8
# a part of a group is scored at once: so many numbers in the perturbed inputs, at least one batch
_PART_VALUES = 2**24
_PART_BATCHES = 8
# candidates of a part: the unfiltered ones stand first, and may be the same map
_PART_CANDIDATES = 4


class NothingToChooseError(ValueError):
    """No candidate has scores that are numbers."""


class NotFiniteError(NothingToChooseError):
    """An explanation holds values that are no numbers."""


class Progress(NamedTuple):
    """Where a search is after a round: the best candidate or -1, and on what it was chosen."""

    best: int
    score: float
    nb_candidates: int
    nb_images: int


class Observer(Protocol):
    """What looks on, and may end the search."""

    def round_begins(self, request: Request, nb_parts: int) -> None:
        """A request is to be scored in so many parts."""
        ...

    def part_ends(self) -> bool:
        """A part is scored; True to stop."""
        ...

    def round_ends(self, progress: Progress) -> bool:
        """A request is scored; True to choose no further."""
        ...


class _Part(NamedTuple):
    """What is scored at once: places in a group of images and in the candidates asked about."""

    images: slice
    candidates: slice


@dataclass
class Search:
    """
    What the loop works on.

    Parameters
    ----------
    samples
        Inputs and targets.
    explain
        Function of a batch that gives explanations of shape (B, ...).
    candidates
        What to compare, the unfiltered maps first; a race that refines adds to them.
    panel
        What to score.
    axes
        Axes to filter along.
    seed
        Seed of explainers that draw noise.
    batch_size
        Number of inputs that the model is given at once.
    """

    samples: Samples
    explain: Callable[[Batch], np.ndarray]
    candidates: list[Candidate]
    panel: Panel
    axes: tuple[int, ...]
    seed: int
    batch_size: int
    _is_random: bool | None = field(default=None, init=False)

    def run(self, race: Race, board: Scoreboard, journal: Journal, observer: Observer) -> None:
        """
        Answer the race's requests until it is over.

        Parameters
        ----------
        race
            Says what to score.
        board
            Takes the scores.
        journal
            Blocks of scores from an earlier run, and a place for new ones.
        observer
            Looks on, and may end the search.

        Raises
        ------
        ValueError
            If an explanation holds NaN or infinite values.
        """
        size = self._size
        groups = [
            images[start : start + size]
            for images in race.groups_of_images
            for start in range(0, len(images), size)
        ]
        while (request := race.ask()) is not None:
            if len(self.candidates) > len(board.scores):
                board.grow(len(self.candidates) - len(board.scores))
            is_asked = np.zeros(len(self.samples), bool)
            is_asked[request.images] = True
            wanted = [group for group in groups if is_asked[group].all()]
            nb_parts = sum(len(self._parts(len(group), request)) for group in wanted)
            observer.round_begins(request, nb_parts)
            is_stopped = False
            for block in self._blocks(request, wanted, race, journal):
                board.add(block)
                is_stopped = observer.part_ends()
                if is_stopped:
                    break
            self._tell(race, board, request)
            if observer.round_ends(self._progress(race, board, request)) or is_stopped:
                race.stop()

    def _tell(self, race: Race, board: Scoreboard, request: Request) -> None:
        is_done = board.has(request.candidates, request.images, request.steps.stop)
        images = request.images[is_done]
        if len(images) or request.purpose == "judge":
            scores = self.panel.sign * board.scores[np.ix_(request.candidates, images)]
            race.tell(request._replace(images=images), scores)
        else:
            race.stop()

    @staticmethod
    def _progress(race: Race, board: Scoreboard, request: Request) -> Progress:
        is_judging = request.purpose == "judge"
        images = race.judging if is_judging else race.seen
        scores = board.scores[race.best, images] if race.best >= 0 else np.array([np.nan])
        is_known = ~np.isnan(scores)
        score = float(np.mean(scores[is_known])) if is_known.any() else float("nan")
        is_asked = is_judging or request.purpose == "refine"
        alive = request.candidates if is_asked else race.alive
        return Progress(race.best, score, len(alive), len(images))

    @cached_property
    def _size(self) -> int:
        """Number of images that are explained together, whatever candidates come later."""
        if self.panel.is_whole:
            return len(self.samples)
        shape = self.samples.shape
        sizes = shape[:-1] if len(shape) > 2 else shape
        nb_values = len(self.candidates) * int(np.prod(sizes))
        most = int(np.clip(_GROUP_VALUES // nb_values, 1, _GROUP_IMAGES))
        return most - most % _EXPLAINED or most

    def _parts(self, nb_images: int, request: Request) -> list[_Part]:
        """How a group is divided: alike in each run, so that scores are the same to the bit."""
        nb_candidates = len(request.candidates)
        if self.panel.is_whole:
            return [_Part(slice(0, nb_images), slice(k, k + 1)) for k in range(nb_candidates)]
        most = _PART_VALUES // int(np.prod(self.samples.shape))
        most = int(np.clip(most, self.batch_size, _PART_BATCHES * self.batch_size))
        rows = self.panel.nb_rows(nb_candidates, request.steps.stop - request.steps.start)
        several = slices(nb_images, most // rows)
        candidates = [slice(0, nb_candidates)]
        if rows > most:
            size = max(_PART_CANDIDATES, nb_candidates * most // rows)
            candidates = [
                slice(low, min(low + size, nb_candidates)) for low in range(0, nb_candidates, size)
            ]
        return [_Part(images, few) for images in several for few in candidates]

    def _blocks(
        self, request: Request, groups: list[np.ndarray], race: Race, journal: Journal
    ) -> Iterator[Block]:
        """Blocks of scores, from the journal or scored now."""
        candidates = [self.candidates[index] for index in request.candidates]

        def known_blocks(group: np.ndarray) -> list[tuple[_Part, Block | None]]:
            return [
                (part, journal.take(request.candidates[part.candidates], group[part.images], steps))
                for part in self._parts(len(group), request)
            ]

        steps = request.steps
        is_fresh = [any(block is None for _, block in known_blocks(group)) for group in groups]
        explained = self._explained_groups(list(itertools.compress(groups, is_fresh)))
        for positions, wanted in zip(groups, is_fresh):
            group = _Group(*next(explained), candidates, self.axes) if wanted else None
            for part, block in known_blocks(positions):
                if block is None and group is not None:
                    block = self._scored(group, part, request, race)
                    journal.put(block)
                if block is not None:
                    yield block

    def _scored(self, group: _Group, part: _Part, request: Request, race: Race) -> Block:
        """Scores of a part of a group; maps that are the same are scored once."""
        batch = group.batch_of(part.images)
        maps, back = group.distinct_maps(part)
        steps = None
        if request.steps.start > 0 or request.steps.stop < self.panel.nb_steps:
            chosen = race.steps.of(batch.positions, request.steps)
            steps = Steps(chosen, race.steps.nb_steps, request.steps.start > 0)
        before = self.panel.nb_evaluations
        found = self.panel.score(batch, maps, steps)
        values = np.stack([found.values, *found.halves, *found.others.values()])
        return Block(
            request.candidates[part.candidates],
            batch.positions,
            (request.steps.start, request.steps.stop),
            values[:, back],
            self.panel.nb_evaluations - before,
        )

    def _explained_groups(self, groups: list[np.ndarray]) -> Iterator[tuple[Batch, np.ndarray]]:
        """Groups with their explanations; the samples are read once for each row of groups."""
        if self.panel.is_whole:
            yield from map(self._explained_as_a_whole, groups)
            return
        for row in _rows(groups):
            for batch in self.samples.batches(len(row[0]), np.concatenate(row)):
                yield batch, self._explained(batch)

    def _explained_as_a_whole(self, group: np.ndarray) -> tuple[Batch, np.ndarray]:
        """All explanations; inputs and targets are not kept."""
        batches = self.samples.batches(_GROUP_IMAGES, group)
        explanations = np.concatenate([self._explained(batch) for batch in batches])
        nothing = np.empty((len(group), 0), np.float32)
        return Batch(group, nothing, nothing), explanations

    def _explained(self, batch: Batch) -> np.ndarray:
        """Explanations of a group, the same each time it is asked about."""
        nb_images = len(batch.positions)
        size = min(_EXPLAINED, self._size)

        def explain(start: int) -> np.ndarray:
            # the last one is repeated to fill up
            part = np.minimum(np.arange(start, start + size), nb_images - 1)
            return np.asarray(self.explain(Batch(*(values[part] for values in batch))))

        if self._is_random is None:
            self._is_random = not np.array_equal(explain(0), explain(0))
        starts = range(0, nb_images, size)
        if self._is_random:
            # only if need be: it clears the kernels of TensorFlow, half a second to load again
            seed = (self.seed * 1_000_003 + int(batch.positions[0])) % (2**31 - 1)
            with repeatable(seed):
                found = np.concatenate([explain(start) for start in starts])[:nb_images]
        else:
            found = np.concatenate([explain(start) for start in starts])[:nb_images]
        bad = ~np.isfinite(found.astype(np.float64)).reshape(nb_images, -1).all(axis=1)
        if bad.any():
            raise NotFiniteError(
                f"The explanation of image {batch.positions[np.argmax(bad)]} holds NaN or infinite "
                "values. Look at the model's outputs and gradients for it, or drop it."
            )
        return found


def _rows(groups: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Groups that batches of one pass over the samples are: of one size but the last, in order."""
    row: list[np.ndarray] = []
    for group in groups:
        is_broken = bool(row) and (
            len(row[-1]) < len(row[0]) or len(group) > len(row[0]) or group[0] < row[-1][-1]
        )
        if is_broken:
            yield row
            row = []
        row.append(group)
    if row:
        yield row


class _Group:
    """
    Images that are explained together, and their maps as each candidate has them.

    Parameters
    ----------
    batch
        The images.
    explanations
        Their explanations, of shape (B, ...).
    candidates
        K candidates, the unfiltered ones first.
    axes
        Axes to filter along.
    """

    def __init__(
        self,
        batch: Batch,
        explanations: np.ndarray,
        candidates: list[Candidate],
        axes: tuple[int, ...],
    ):
        self.batch, self.explanations = batch, explanations
        self.candidates, self.axes = candidates, axes
        self._is_whole = not batch.inputs.size
        self._maps = None if self._is_whole else filtered_maps(explanations, candidates, axes)
        self._part = slice(0), batch
        self._twins = np.arange(len(candidates))
        if self._maps is not None:
            unfiltered = [k for k, one in enumerate(candidates) if not one.is_filter]
            # the rectified map of a method without sign is its raw map
            for place, k in enumerate(unfiltered):
                for other in unfiltered[:place]:
                    if np.array_equal(self._maps[other], self._maps[k]):
                        self._twins[k] = self._twins[other]
                        break

    def batch_of(self, images: slice) -> Batch:
        """Some of the images: the same object while the same ones are asked for."""
        if self._part[0] != images:
            self._part = images, Batch(*(values[images] for values in self.batch))
        return self._part[1]

    def distinct_maps(self, part: _Part) -> tuple[np.ndarray, np.ndarray]:
        """Maps that differ, of shape (k, b, ...), and which of them each candidate has."""
        distinct, back = np.unique(self._twins[part.candidates], return_inverse=True)
        if self._maps is None:
            few = self.candidates[part.candidates]
            return filtered_maps(self.explanations, few, self.axes), back
        if len(distinct) == len(back):
            return self._maps[part.candidates, part.images], back
        return self._maps[distinct, part.images], back
