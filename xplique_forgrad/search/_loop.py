"""
The loop of a search: ask the race, explain, filter, score, tell the race.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from .._replicas import Replicas
from .._samples import Batch, Samples
from ..metrics._metric import Steps
from ..metrics._steps import slices
from ._board import Block, Scoreboard
from ._candidates import Candidate, Maps, filtered_maps
from ._checkpoint import Journal
from ._explaining import EXPLAINED, Explaining
from ._panel import Panel
from .controls import Control, control_maps, fewest_images
from .racing import Race, Request

# a group of images is explained at once: so many numbers in its maps, and so many images, at most
_GROUP_VALUES = 2**24
_GROUP_IMAGES = 64
# a part of a group is scored at once: so many numbers in the perturbed inputs, at least one batch
_PART_VALUES = 2**24
_PART_BATCHES = 8
# candidates of a part: the unfiltered ones stand first, and may be the same map
_PART_CANDIDATES = 4


class Progress(NamedTuple):
    """
    Where a search is after a round: the best candidate or -1, its score, what that exceeds the
    control's by (NaN unless the control is subtracted), and on what it was chosen.
    """

    best: int
    score: float
    specific: float
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

    def aside(self, name: str, nb_parts: int) -> Callable[[], bool]:
        """After the last round something else is scored: gives what to call after each part."""
        ...


class Boards(NamedTuple):
    """Scores of the maps, and of the control's maps."""

    own: Scoreboard
    control: Scoreboard


class _Part(NamedTuple):
    """
    What is scored at once: places in a group of images and in the candidates asked about, of the
    maps or of the control's.
    """

    images: slice
    candidates: slice
    is_control: bool = False


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
    batch_size
        Number of inputs that the model is given at once.
    control
        Gives maps that explain nothing; None for no control.
    subtract_control
        Whether candidates are compared by what their scores exceed the control's by.
    border
        How maps go on beyond their borders.
    replicas
        Devices that share the work; their processes must go the same way.
    """

    samples: Samples
    explain: Explaining
    candidates: list[Candidate]
    panel: Panel
    axes: tuple[int, ...]
    batch_size: int
    control: Control | None = None
    subtract_control: bool = False
    border: str = "periodic"
    replicas: Replicas = field(default_factory=Replicas)

    def run(self, race: Race, boards: Boards, journal: Journal, observer: Observer) -> None:
        """
        Answer the race's requests until it is over.

        Parameters
        ----------
        race
            Says what to score.
        boards
            Take the scores.
        journal
            Blocks of scores from an earlier run, and a place for new ones.
        observer
            Looks on, and may end the search.

        Raises
        ------
        ValueError
            If an explanation, or a map of the control, holds NaN or infinite values.
        """
        groups = self._groups(race.groups_of_images)
        while (request := race.ask()) is not None:
            for board in boards:
                board.grow(len(self.candidates) - len(board.scores))
            is_asked = np.zeros(len(self.samples), bool)
            is_asked[request.images] = True
            wanted = [group for group in groups if is_asked[group].all()]
            observer.round_begins(request, self._number_of_parts(request, wanted))
            is_stopped = self._answer(request, wanted, race, boards, journal, observer.part_ends)
            self._tell(race, boards, request)
            is_over = observer.round_ends(self._progress(race, boards, request))
            if self.replicas.agree(is_over) or is_stopped:
                race.stop()

    def run_control(
        self, request: Request, race: Race, boards: Boards, journal: Journal, observer: Observer
    ) -> None:
        """Score the control's maps of some candidates on some images, after the race."""
        groups = self._groups([request.images])
        advance = observer.aside("control", self._number_of_parts(request, groups))
        self._answer(request, groups, race, boards, journal, advance)

    def _groups(self, several: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Images that are explained together; a control may need a few of them."""
        size, groups = self._size, []
        for images in several:
            bounds = list(range(0, len(images), size))
            if len(bounds) > 1 and len(images) - bounds[-1] < fewest_images(self.control):
                bounds.pop()
            groups += np.split(images, bounds[1:])
        return groups

    def _answer(
        self,
        request: Request,
        groups: list[np.ndarray],
        race: Race,
        boards: Boards,
        journal: Journal,
        advance: Callable[[], bool],
    ) -> bool:
        """Score what is asked for; True if `advance`, called after each part, wants no more."""
        for block in self._blocks(request, groups, race, journal):
            boards[block.is_control].add(block)
            if self.replicas.agree(advance()):
                return True
        return False

    def _number_of_parts(self, request: Request, groups: list[np.ndarray]) -> int:
        return sum(len(self._parts(len(group), request)) for group in groups)

    def _tell(self, race: Race, boards: Boards, request: Request) -> None:
        asked = request.candidates, request.images, request.steps.stop
        is_done = boards.own.has(*asked)
        if self.subtract_control:
            is_done &= boards.control.has(*asked)
        images = request.images[is_done]
        if len(images) or request.purpose == "judge":
            scores = self.compared(boards)[np.ix_(request.candidates, images)]
            race.tell(request._replace(images=images), self.panel.sign * scores)
        else:
            race.stop()

    def compared(self, boards: Boards) -> np.ndarray:
        """What candidates are compared by, of shape (K, N)."""
        if not self.subtract_control:
            return boards.own.scores
        return boards.own.scores - boards.control.scores

    def _progress(self, race: Race, boards: Boards, request: Request) -> Progress:
        is_judging = request.purpose == "judge"
        images = race.judging if is_judging else race.seen

        def mean_of_best(scores: np.ndarray) -> float:
            known = scores[race.best, images] if race.best >= 0 else np.empty(0)
            known = known[~np.isnan(known)]
            return float(np.mean(known)) if len(known) else float("nan")

        score = mean_of_best(boards.own.scores)
        specific = mean_of_best(boards.own.scores - boards.control.scores)
        is_asked = is_judging or request.purpose == "refine"
        alive = request.candidates if is_asked else race.alive
        return Progress(race.best, score, specific, len(alive), len(images))

    @cached_property
    def _size(self) -> int:
        """Number of images that are explained together, whatever candidates come later."""
        if self.panel.is_whole:
            return len(self.samples)
        shape = self.samples.shape
        sizes = shape[:-1] if len(shape) > 2 else shape
        nb_values = len(self.candidates) * int(np.prod(sizes))
        most = int(np.clip(_GROUP_VALUES // nb_values, fewest_images(self.control), _GROUP_IMAGES))
        return most - most % EXPLAINED or most

    def _parts(self, nb_images: int, request: Request) -> list[_Part]:
        """How a group is divided: alike in each run, so that scores are the same to the bit."""
        if request.purpose == "control":
            return [one._replace(is_control=True) for one in self._own_parts(nb_images, request)]
        # the control of the same images right after: what does not depend on maps is scored once
        kinds = (False, True) if self.subtract_control else (False,)
        return [
            one._replace(is_control=kind)
            for one in self._own_parts(nb_images, request)
            for kind in kinds
        ]

    def _own_parts(self, nb_images: int, request: Request) -> list[_Part]:
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
        candidates, steps = request.candidates, request.steps

        def known_blocks(group: np.ndarray) -> list[tuple[_Part, Block | None]]:
            return [
                (part, journal.take(candidates[part.candidates], group[part.images], steps, kind))
                for part in self._parts(len(group), request)
                for kind in (part.is_control,)
            ]

        is_fresh = [any(block is None for _, block in known_blocks(group)) for group in groups]
        explained = self._explained_groups(list(itertools.compress(groups, is_fresh)))
        for positions, wanted in zip(groups, is_fresh):
            group = self._group(*next(explained), candidates) if wanted else None
            for part, block in known_blocks(positions):
                if block is None and group is not None:
                    block = self._scored(group, part, request, race)
                    journal.put(block)
                if block is not None:
                    yield block

    def _group(self, batch: Batch, explanations: Maps, candidates: np.ndarray) -> _Group:
        treated = [self.candidates[index] for index in candidates]
        is_whole = not batch.inputs.size

        def treat(maps: Maps) -> _Treated:
            return _Treated(maps, treated, self.axes, self.border, is_whole)

        def treat_control() -> list[_Treated]:
            assert self.control is not None
            several = control_maps(self.control, batch, np.asarray(explanations))
            return [treat(one) for one in several]

        return _Group(batch, lambda: treat(explanations), treat_control)

    def _scored(self, group: _Group, part: _Part, request: Request, race: Race) -> Block:
        """Scores of a part of a group; maps that are the same are scored once."""
        batch = group.batch_of(part.images)
        steps = None
        if request.steps.start > 0 or request.steps.stop < self.panel.nb_steps:
            chosen = race.steps.of(batch.positions, request.steps)
            steps = Steps(chosen, race.steps.nb_steps, request.steps.start > 0)
        panel = self.panel.alone if part.is_control else self.panel
        before = panel.nb_evaluations
        several = []
        for one in group.controls if part.is_control else [group.own]:
            maps, back = one.distinct(part)
            found = panel.score(batch, maps, steps)
            values = np.stack([found.values, *found.halves, *found.others.values()])
            several.append(values[:, back])
        return Block(
            request.candidates[part.candidates],
            batch.positions,
            (request.steps.start, request.steps.stop),
            # over the partners of a control
            np.mean(several, axis=0),
            panel.nb_evaluations - before,
            part.is_control,
        )

    def _explained_groups(self, groups: list[np.ndarray]) -> Iterator[tuple[Batch, Maps]]:
        """Groups with their explanations; the samples are read once for each row of groups."""
        if self.panel.is_whole:
            yield from map(self._explained_as_a_whole, groups)
            return
        for row in _rows(groups):
            for batch in self.samples.batches(len(row[0]), np.concatenate(row)):
                yield batch, self.explain.maps(batch, self._size)

    def _explained_as_a_whole(self, group: np.ndarray) -> tuple[Batch, np.ndarray]:
        """All explanations; inputs and targets are not kept."""
        batches = self.samples.batches(_GROUP_IMAGES, group)
        explanations = np.concatenate([self.explain(batch, self._size) for batch in batches])
        nothing = np.empty((len(group), 0), np.float32)
        return Batch(group, nothing, nothing), explanations


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


class _Treated:
    """
    Maps as each candidate has them.

    Parameters
    ----------
    explanations
        Maps of shape (B, ...), not filtered.
    candidates
        K candidates, the unfiltered ones first.
    axes
        Axes to filter along.
    border
        How they go on beyond their borders.
    is_whole
        Whether there are too many to keep them filtered.
    """

    def __init__(
        self,
        explanations: Maps,
        candidates: list[Candidate],
        axes: tuple[int, ...],
        border: str,
        is_whole: bool,
    ):
        self.explanations, self.candidates = explanations, candidates
        self._options = axes, border
        self._maps = None if is_whole else filtered_maps(explanations, candidates, axes, border)
        self._twins = np.arange(len(candidates))
        if self._maps is not None:
            unfiltered = [k for k, one in enumerate(candidates) if not one.is_filter]
            # the rectified map of a method without sign is its raw map
            for place, k in enumerate(unfiltered):
                for other in unfiltered[:place]:
                    if np.array_equal(self._maps[other], self._maps[k]):
                        self._twins[k] = self._twins[other]
                        break

    def distinct(self, part: _Part) -> tuple[Maps, np.ndarray]:
        """Maps that differ, of shape (k, b, ...), and which of them each candidate has."""
        distinct, back = np.unique(self._twins[part.candidates], return_inverse=True)
        if self._maps is None:
            few = self.candidates[part.candidates]
            return filtered_maps(self.explanations, few, *self._options), back
        if len(distinct) == len(back):
            return self._maps[part.candidates, part.images], back
        if tf.is_tensor(self._maps):
            return tf.gather(self._maps, distinct)[:, part.images], back
        return self._maps[distinct, part.images], back


class _Group:
    """
    Images that are explained together, with their maps and the control's.

    Parameters
    ----------
    batch
        The images.
    treat
        Gives their maps.
    treat_control
        Gives the maps of the control, one after the other where each image has several.
    """

    def __init__(
        self,
        batch: Batch,
        treat: Callable[[], _Treated],
        treat_control: Callable[[], list[_Treated]],
    ):
        self.batch, self._treat, self._treat_control = batch, treat, treat_control
        self._part = slice(0), batch

    @cached_property
    def own(self) -> _Treated:
        """Their maps."""
        return self._treat()

    @cached_property
    def controls(self) -> list[_Treated]:
        """The control's maps."""
        return self._treat_control()

    def batch_of(self, images: slice) -> Batch:
        """Some of the images: the same object while the same ones are asked for."""
        if self._part[0] != images:
            self._part = images, Batch(*(values[images] for values in self.batch))
        return self._part[1]
