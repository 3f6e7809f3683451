"""
A search from its setup to its result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras

from ._board import Scoreboard
from ._callbacks import KerasObserver
from ._candidates import Candidate, neighbours
from ._checkpoint import Checkpoint, NoJournal
from ._loop import NothingToChooseError, Progress, Search
from ._result import SigmaSearch
from ._settings import Settings
from ._setup import Setup, fingerprints
from .racing import Race


def run(
    setup: Setup,
    callbacks: Sequence[keras.callbacks.Callback],
    path: Path | None,
    verbose: int,
) -> SigmaSearch:
    """
    Run a search between its checkpoint and Keras' callbacks, and put its result together.

    Parameters
    ----------
    setup
        What the search works on.
    callbacks
        Callbacks of Keras.
    path
        Checkpoint to go on from and to write, or None.
    verbose
        As in `keras.Model.fit`.

    Raises
    ------
    ValueError
        If the checkpoint is that of another search, or no candidate has scores that are numbers.
    KeyboardInterrupt
        With the way to go on, if the search is interrupted.
    """
    search, panel = setup.search, setup.search.panel
    race = _race(setup)
    settings = replace(
        setup.settings,
        options=replace(
            setup.settings.options, strategy="racing" if race.is_racing else "exhaustive"
        ),
        scoring=panel.scoring(),
        fingerprints=fingerprints(setup, is_resumable=path is not None),
    )
    board = Scoreboard(panel.others, len(search.candidates), settings.nb_images)
    journal = NoJournal() if path is None else Checkpoint(path, settings.to_dict())
    observer = KerasObserver(
        callbacks, verbose, len(race.groups_of_images), _logging(search, settings)
    )
    try:
        if verbose and journal.nb_images:
            print(f"Resumed at {journal.nb_images} of {settings.nb_images} images.")
        with observer:
            search.run(race, board, journal, observer)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_how_to_go_on(path)) from interrupt
    finally:
        journal.close()
    if race.best < 0:
        raise NothingToChooseError(
            "The model gives NaN for every candidate on too many images to choose one. Look at its "
            f"outputs for these inputs, and for the baseline {settings.scoring.baseline}."
        )
    columns = slice(0, 1 if board.is_scalar else None)
    return SigmaSearch(
        objective=panel.name,
        higher_is_better=panel.higher_is_better,
        candidates=tuple(search.candidates),
        scores=board.scores[:, columns],
        others={name: scores[:, columns] for name, scores in board.other_scores.items()},
        halves=board.halves[..., columns],
        scored=board.scored[:, columns],
        best=race.best,
        held_out=race.chosen_without()[columns],
        nb_evaluations=board.nb_evaluations,
        settings=settings,
    )


def _race(setup: Setup) -> Race:
    search, options = setup.search, setup.settings.options
    unfiltered = [i for i, candidate in enumerate(search.candidates) if not candidate.is_filter]
    return Race(
        len(search.candidates),
        setup.settings.nb_images,
        search.panel.nb_steps,
        tolerance=options.tolerance,
        z=options.z,
        seed=options.seed,
        strategy="exhaustive" if search.panel.is_whole else options.strategy,
        unfiltered=tuple(unfiltered),
        refine=_refining(setup) if options.refine else None,
    )


def _logging(search: Search, settings: Settings) -> Callable[[Progress], dict[str, float]]:
    """Gives what Keras' callbacks see of a round."""

    def to_logs(progress: Progress) -> dict[str, float]:
        sigma = float("nan")
        if progress.best >= 0:
            sigma = search.candidates[progress.best].sigma or settings.full_band
        return {
            search.panel.name: progress.score,
            "sigma": sigma,
            "nb_candidates": progress.nb_candidates,
            "nb_images": progress.nb_images,
        }

    return to_logs


def _refining(setup: Setup) -> Callable[[int], int]:
    """Adds cutoffs around the best to the candidates, and says how many."""
    candidates, full_band = setup.search.candidates, setup.settings.full_band

    def refine(best: int) -> int:
        sigma, window, rectify = candidates[best]
        if sigma is None:
            return 0
        tried = [c.sigma for c in candidates if c[1:] == (window, rectify) and c.sigma is not None]
        new = neighbours(sigma, tried, full_band)
        candidates.extend(Candidate(value, window, rectify) for value in new)
        return len(new)

    return refine


def _how_to_go_on(path: Path | None) -> str:
    if path is None:
        return (
            "The search was interrupted, and nothing of it is kept; with search(..., "
            "checkpoint='search.checkpoint') it could go on from here."
        )
    return (
        f"The search was interrupted; its state is in {path}. Call search again with the same "
        f"settings and checkpoint={str(path)!r} to go on from there."
    )
