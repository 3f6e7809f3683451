"""
A search from its setup to its result.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from .._notices import notify
from .._replicas import Replicas
from ._board import Scoreboard
from ._callbacks import KerasObserver
from ._candidates import Candidate, neighbours
from ._checkpoint import Checkpoint, NoJournal
from ._explaining import NothingToChooseError
from ._loop import Boards, Progress, Search
from ._result import SigmaSearch
from ._settings import Settings
from ._setup import Setup, fingerprints
from .racing import Race, Request

# of the passes of a search, those that its control may add, and for how few images it always may
CONTROL_SHARE = 0.25
_FEWEST_CONTROLLED = 8


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
    replicas = search.replicas
    if replicas.are_processes:
        _check_processes(replicas, setup, settings)
        verbose = verbose if replicas.is_chief else 0
    size = len(search.candidates), settings.nb_images
    boards = Boards(Scoreboard(panel.others, *size), Scoreboard((), *size))
    board = boards.own
    journal = NoJournal() if path is None else Checkpoint(path, settings.to_dict(), replicas)
    observer = KerasObserver(
        callbacks, verbose, len(race.groups_of_images), _logging(search, settings)
    )
    try:
        if verbose and journal.nb_images:
            print(f"Resumed at {journal.nb_images} of {settings.nb_images} images.")
        with observer:
            search.run(race, boards, journal, observer)
            request = _control_request(setup, race, board)
            if request is not None:
                search.run_control(request, race, boards, journal, observer)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(_how_to_go_on(path)) from interrupt
    finally:
        journal.close()
    if race.best < 0:
        raise NothingToChooseError(
            "The model gives NaN for every candidate on too many images to choose one. Look at its "
            f"outputs for these inputs, and for the baseline {settings.scoring.baseline}."
        )
    _report_failures(search, boards)
    columns = slice(0, 1 if board.is_scalar else None)
    halves = board.halves
    if search.subtract_control:
        halves = halves - boards.control.halves
    return SigmaSearch(
        objective=panel.name,
        higher_is_better=panel.higher_is_better,
        candidates=tuple(search.candidates),
        scores=board.scores[:, columns],
        others={name: scores[:, columns] for name, scores in board.other_scores.items()},
        control=None if search.control is None else boards.control.scores[:, columns],
        halves=halves[..., columns],
        scored=board.scored[:, columns],
        best=race.best,
        held_out=race.chosen_without()[columns],
        nb_evaluations=sum(one.nb_evaluations for one in boards),
        settings=settings,
    )


def _check_processes(replicas: Replicas, setup: Setup, settings: Settings) -> None:
    """Raise a ValueError unless all processes search the same."""
    known = {key: value for key, value in settings.to_dict().items() if not key.startswith("first")}
    known["data"] = zlib.crc32(setup.search.samples.fingerprints().tobytes())
    replicas.check_same("settings, weights, inputs or targets", json.dumps(known))


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


def _control_request(setup: Setup, race: Race, board: Scoreboard) -> Request | None:
    """
    The control of what was chosen and of the unfiltered maps, on images that did not choose.

    On as many as `CONTROL_SHARE` of the passes so far goes for, and on 8 at least.
    """
    search, settings = setup.search, setup.settings
    if search.control is None or search.subtract_control or board.is_scalar or race.best < 0:
        return None
    held_out = race.chosen_without()
    images = np.flatnonzero(held_out >= 0)
    if not len(images):
        return None
    candidates = np.unique([*held_out[images], race.best, *race.unfiltered])
    # maps that are the same are scored once
    nb_distinct = len(np.unique(board.scores[np.ix_(candidates, images)], axis=0))
    nb_partners = getattr(search.control, "nb_partners", 1)
    cost = nb_partners * search.panel.alone.nb_rows(nb_distinct, search.panel.nb_steps)
    most = max(_FEWEST_CONTROLLED, int(CONTROL_SHARE * board.nb_evaluations / cost))
    if search.panel.is_whole:
        # an objective that knows its images takes them all
        images = np.arange(settings.nb_images)
    elif board.nb_evaluations and len(images) > most:
        rng = np.random.default_rng((settings.seed, 2))
        images = np.sort(rng.choice(images, most, replace=False))
    return Request(candidates, images, slice(0, search.panel.nb_steps), "control")


def _report_failures(search: Search, boards: Boards) -> None:
    """Warn where the model gives NaN for the control's maps."""
    failed = boards.control.scored & np.isnan(boards.control.scores)
    if search.control is not None and failed.any():
        notify(
            f"The model gives NaN for the maps of the control {search.control.name!r} on "
            f"{failed.any(axis=0).sum()} of {boards.control.scored.any(axis=0).sum()} images; "
            "these images are left out of the specific gain."
        )


def _logging(search: Search, settings: Settings) -> Callable[[Progress], dict[str, float]]:
    """Gives what Keras' callbacks see of a round."""

    def to_logs(progress: Progress) -> dict[str, float]:
        sigma = float("nan")
        if progress.best >= 0:
            sigma = search.candidates[progress.best].sigma or settings.full_band
        specific = {"specific": progress.specific} if search.subtract_control else {}
        return {
            search.panel.name: progress.score,
            **specific,
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
