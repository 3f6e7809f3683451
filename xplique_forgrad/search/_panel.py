"""
The panel that scores a search: the objective and those to report beside it, in one pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .._replicas import Replicas
from .._samples import Batch, Samples
from ..metrics import Deletion, Faithfulness, Insertion, MuFidelity
from ..metrics._metric import Parts, PerImageMetric, Steps
from ..metrics._options import CausalOptions, MaskOptions, ScoringOptions
from ._candidates import Maps
from ._description import describe, describe_with_data
from ._settings import Scoring
from .objectives import (
    MEASURES,
    NAMED,
    Objective,
    Scores,
    WeightedSum,
    WholeScore,
    adapted,
    check_same_data,
    checked_sum,
    direction_of,
)

_OWN = (Insertion, Deletion, Faithfulness, MuFidelity)


class ScoringSettings(NamedTuple):
    """The options of the metrics that the named objectives are computed with."""

    scoring: ScoringOptions
    causal: CausalOptions
    masks: MaskOptions

    @classmethod
    def checked(cls, options: Mapping[str, Any], seed: int) -> ScoringSettings:
        """Options as users give them, each in the group that it belongs to."""
        kinds = (ScoringOptions, CausalOptions, MaskOptions)
        names = [[field.name for field in fields(kind) if field.name != "seed"] for kind in kinds]
        known = [name for group in names for name in group]
        for name in options:
            if name not in known:
                # `sigma` is the filter's: the search has `sigmas`
                close = difflib.get_close_matches(name, [*known, "sigmas"], n=1)
                raise TypeError(
                    f"There is no option {name!r}"
                    + (f"; did you mean {close[0]!r}?" if close else ".")
                    + f" Options of the metrics are {', '.join(map(repr, known))}."
                )
        given = [{name: options[name] for name in group if name in options} for group in names]
        return cls(
            ScoringOptions(**given[0]),
            CausalOptions(**given[1]),
            MaskOptions(**given[2], seed=int(seed)),
        )


class Panel:
    """
    The objective to optimise and those to report beside it, in one pass of the model.

    Parameters
    ----------
    main
        What to optimise.
    sources
        Metrics whose parts the weighted sums are made of.
    sums
        Objectives that are weighted sums of those parts, by name: among them the main one, if it
        is such a sum, and those to report.
    is_whole
        Whether the main objective is given all images at once.
    """

    def __init__(
        self,
        main: Objective | WeightedSum,
        sources: Sequence[PerImageMetric] = (),
        sums: Mapping[str, Mapping[str, float]] | None = None,
        is_whole: bool = False,
    ):
        self.main, self.is_whole = main, is_whole
        self.sources, self.sums = tuple(sources), dict(sums or {})
        self.name, self.higher_is_better = main.name, main.higher_is_better
        self.others = tuple(name for name in self.sums if name != main.name)
        self.nb_steps = max(1, getattr(main, "nb_steps", 1))

    @property
    def sign(self) -> int:
        """1 if high scores of the objective are good, -1 if low ones are."""
        return 1 if self.higher_is_better else -1

    @property
    def is_own(self) -> bool:
        """Whether the objective scores by itself, and is no sum of what the metrics measure."""
        return self.name not in self.sums

    @property
    def replicas(self) -> Replicas | None:
        """The replicas that share the passes; None where no metric of ours scores."""
        return self.sources[0].scorer.replicas if self.sources else None

    @cached_property
    def alone(self) -> Panel:
        """The objective without what is reported beside it."""
        weights = self.sums.get(self.name, {})
        sources = [one for one in self.sources if set(weights) & set(one.measures)]
        sums = {self.name: weights} if weights else {}
        return Panel(self.main, sources, sums, self.is_whole)

    @property
    def nb_evaluations(self) -> int:
        """Number of inputs that the model was given so far, where the objective counts them."""
        counting = (*self.sources, self.main) if self.is_own else self.sources
        return sum(getattr(one, "nb_evaluations", 0) for one in dict.fromkeys(counting))

    def nb_rows(self, nb_candidates: int, nb_steps: int) -> int:
        """Number of perturbed inputs, about, that an image takes with so many maps and steps."""
        share = nb_steps / self.nb_steps
        rows = sum(source.nb_rows(nb_candidates, share) for source in self.sources)
        # an objective of the user's own may look at each map
        return max(1, rows, nb_candidates if self.is_own else 1)

    def score(self, batch: Batch, maps: Maps, steps: Steps | None = None) -> Scores:
        """Score K maps (K, B, ...) of B samples, from some perturbation steps or from all."""
        parts: Parts = {}
        for source in self.sources:
            if steps is not None and steps.is_more and not source.takes(steps):
                # scored with all of its own steps when the samples were first looked at
                unknown = np.full((3, *maps.shape[:2]), np.nan)
                parts.update(dict.fromkeys(source.measures, unknown))
            else:
                parts.update(source.parts(batch, maps, steps))
        found = {
            name: np.sum([weight * parts[key] for key, weight in weights.items()], axis=0)
            for name, weights in self.sums.items()
        }
        if self.is_own:
            found[self.name] = self._main_scores(batch, maps, steps)
        finite = {name: np.where(np.isfinite(s), s, np.nan) for name, s in found.items()}
        values, halves = finite[self.name][0], finite[self.name][1:]
        return Scores(values, halves, {name: finite[name][0] for name in self.others})

    def _main_scores(self, batch: Batch, maps: Maps, steps: Steps | None) -> np.ndarray:
        main: Any = self.main
        maps = np.asarray(maps)
        arguments = (batch, maps, steps) if self.nb_steps > 1 else (batch, maps)
        scores = np.asarray(main.score(*arguments), np.float64)
        allowed = [maps.shape[:2], (len(maps), 1)] if self.is_whole else [maps.shape[:2]]
        if scores.shape not in allowed:
            raise ValueError(
                f"The objective {self.name!r} gave scores of shape {scores.shape} for maps of "
                f"shape {maps.shape}; it must give one for each map of each image, "
                f"{maps.shape[:2]}" + (", or one number." if self.is_whole else ".")
            )
        return np.stack([scores, *np.full((2, *scores.shape), np.nan)])

    def scoring(self) -> Scoring:
        """What the scores are truly computed with."""
        options: dict[str, Any] = {}
        for source in self.sources:
            own = source.options()
            if "seed" in own:
                own["mask_seed"] = own.pop("seed")
            options.update({key: describe(value) for key, value in own.items()})
        # one look at the model says what is odd for all metrics, which share their options
        are_probabilities = bool(self.sources) and self.sources[0].are_probabilities()
        if not self.is_own:
            is_known = are_probabilities or set(self.sums[self.name]) <= {"mu_fidelity"}
            return Scoring(options, scale=1.0 if is_known else None)
        described = getattr(self.main, "described", self.main)
        found = describe_with_data(described) if self.is_whole else describe(described)
        return Scoring(options, scored_by=found)

    def probe(self, explanation: np.ndarray, samples: Samples) -> list[str]:
        """
        What functions and models make of the first sample, which tells them apart from others.

        The score of its explanation (1, ...) by an objective of the user's own, and the model's
        scores of the input and its baseline.
        """
        batch = Batch(np.arange(1), *samples.probe)
        found = []
        if self.is_own and not self.is_whole:
            found = [f"{self._main_scores(batch, explanation[np.newaxis], None)[0].item():.6g}"]
        for metric in self.sources[:1]:
            baseline = metric.scorer.baselines(batch)
            score = metric.batch_inference_function
            scores = [
                float(score(metric.model, inputs, batch.targets, 1)[0])
                for inputs in (batch.inputs, baseline)
            ]
            found += [f"{value:.4g}" for value in (*scores, baseline.mean(), baseline.std())]
        return found


def make_panel(
    objective: Any,
    mode: str | None,
    report: Sequence[str],
    model: Any,
    samples: Samples,
    settings: ScoringSettings,
) -> Panel:
    """
    The panel that scores a search.

    Parameters
    ----------
    objective
        What `SigmaOptimizer` takes as one.
    mode
        "max", "min", or None where the direction is known.
    report
        Names of other objectives to report.
    model
        Model that is scored.
    samples
        Inputs and targets of the search.
    settings
        Options of the metrics that are built here.
    """
    sums = {name: NAMED[name] for name in report}
    given: list[PerImageMetric] = []
    if isinstance(objective, PerImageMetric):
        check_same_data(objective, model, samples)
        # what is reported beside a metric is computed as it is
        settings = _settings_of(objective, settings)
        if type(objective) in _OWN:
            objective = objective.name
        else:
            given = [objective]
    if isinstance(objective, (str, Mapping)):
        name, weights = checked_sum(objective)
        # of a mapping the weights say the direction
        main: Objective | WeightedSum = WeightedSum(name, objective != "deletion")
        sums = {name: weights, **sums}
    elif given:
        main, sums = given[0], {objective.name: {objective.name: 1.0}, **sums}
    else:
        main = adapted(objective, direction_of(objective, mode), model, samples)
    # what is computed anyway is reported too
    for measure in MEASURES:
        if any(measure in weights for weights in sums.values()):
            sums.setdefault(measure, NAMED[measure])
    sources = [*given, *_built(sums, given, model, samples, settings)]
    if isinstance(main, WeightedSum):
        parts = [one for one in sources if set(sums[main.name]) & set(one.measures)]
        # estimated from some steps only if each of its parts is
        is_sampled = all(one.takes_total(parts[0].nb_steps) for one in parts if one.nb_steps)
        main.nb_steps = parts[0].nb_steps if is_sampled else 1
    return Panel(main, sources, sums, is_whole=isinstance(main, WholeScore))


def _settings_of(metric: PerImageMetric, settings: ScoringSettings) -> ScoringSettings:
    """The options that a metric was built with, and those of the search for the rest."""
    causal = getattr(metric, "causal", settings.causal)
    masks = getattr(metric, "masks", settings.masks)
    return ScoringSettings(metric.scorer.options, causal, masks)


def _built(
    sums: Mapping[str, Mapping[str, float]],
    given: Sequence[PerImageMetric],
    model: Any,
    samples: Samples,
    settings: ScoringSettings,
) -> list[PerImageMetric]:
    """Metrics for the parts of the sums that those given do not have."""
    known = {measure for metric in given for measure in (metric.name, *metric.measures)}
    missing = {part for weights in sums.values() for part in weights} - known
    if missing and model is None:
        raise ValueError("There is no model to score; give it by `model=`.")
    scoring = vars(settings.scoring)
    built: list[PerImageMetric] = []
    modes = missing & {"insertion", "deletion"}
    if modes:
        kinds = {"insertion": Insertion, "deletion": Deletion}
        kind = Faithfulness if len(modes) == 2 else kinds[modes.pop()]
        built.append(kind(model, samples, **vars(settings.causal), **scoring))
    if "mu_fidelity" in missing:
        built.append(MuFidelity(model, samples, **vars(settings.masks), **scoring))
    return built
