"""
Objectives that give one score to all explanations together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from .._samples import Samples
from ..filtering import full_band_sigma
from .candidates import Candidate, filtered_maps
from .result import SigmaSearch
from .seeds import repeatable
from .statistics import best_index, cross_fitted


def search_as_a_whole(
    explain: Callable,
    samples: Samples,
    candidates: Sequence[Candidate],
    objective: Any,
    mode: str,
    axes: tuple[int, ...],
    settings: dict[str, Any],
    verbose: int,
) -> SigmaSearch:
    """
    Score each candidate by a metric of Xplique or a function of all explanations.

    It is given the explanations (N, ...) of one candidate at a time. A function may give one score,
    or one per image; a metric with `evaluate_per_image` is asked for that.
    """
    with repeatable(settings["seed"]):
        found = [np.asarray(explain(*batch)) for batch in samples.batches(64)]
    explanations = np.concatenate(found)
    if not np.isfinite(explanations.astype(np.float64)).all():
        raise ValueError("The explanations hold NaN or infinite values; drop those images.")
    score = getattr(objective, "evaluate_per_image", objective)
    progress = keras.utils.Progbar(len(candidates), verbose=verbose)
    rows = []
    for candidate in candidates:
        maps = filtered_maps(explanations, [candidate], axes)[0]
        row = np.atleast_1d(np.asarray(score(maps), np.float64))
        if row.ndim != 1 or len(row) not in (1, len(explanations)):
            raise ValueError(
                f"The objective gave an array of shape {np.shape(row)}; it must give one number, "
                f"or one for each of the {len(explanations)} explanations."
            )
        rows.append(np.where(np.isfinite(row), row, np.nan))
        progress.add(1)
    scores = np.stack(rows)
    sign = 1 if mode == "max" else -1
    known = ~np.isnan(scores).all(axis=0)
    best = best_index(sign * scores)
    if best < 0:
        raise ValueError("The objective gives NaN for every candidate: nothing to choose from.")
    held_out = np.full(scores.shape[1], -1)
    held_out[known] = cross_fitted(sign * scores[:, known], settings["seed"])
    shape = [samples.shape[axis - 1] for axis in axes]
    return SigmaSearch(
        objective=getattr(objective, "__name__", type(objective).__name__),
        higher_is_better=mode == "max",
        candidates=tuple(candidates),
        scores=scores,
        others={},
        halves=np.full((2, *scores.shape), np.nan),
        scored=np.ones(scores.shape, bool),
        best=best,
        held_out=held_out,
        nb_evaluations=0,
        settings={
            **settings,
            "baseline_mode": "its own",
            "strategy": "exhaustive",
            "full_band": full_band_sigma(shape),
        },
    )
