"""
What a search optimises: an objective scores maps of images, whatever it looks at.

The named objectives and mappings of them are shorthands for weighted sums of our metrics. A metric
of Xplique, a function, and anything with the three members of `Objective` go as well.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf
from xplique.metrics.base import BaseComplexityMetric, ExplanationMetric

from .._checks import check_choice
from .._models import share_weights
from .._samples import Batch, Samples, make_samples
from ..metrics._metric import PerImageMetric

# each objective as a weighted sum of measures; of Deletion alone, lower is better
NAMED: dict[str, dict[str, float]] = {
    "faithfulness": {"insertion": 1.0, "deletion": -1.0},
    "insertion": {"insertion": 1.0},
    "deletion": {"deletion": 1.0},
    "mu_fidelity": {"mu_fidelity": 1.0},
}
MEASURES = ("insertion", "deletion", "mu_fidelity")
# Xplique's metrics do not say which way is better
_DIRECTIONS = {
    "Deletion": False,
    "Insertion": True,
    "MuFidelity": True,
    "AverageDropMetric": False,
    "AverageGainMetric": True,
    "AverageIncreaseMetric": True,
}


@runtime_checkable
class Objective(Protocol):
    """
    Anything that scores maps of images: write a class with these three members, and search with it.

    What scores each image races, resumes, reports and refines as the named objectives do. One that
    is a mean over perturbation steps may say so by an attribute `nb_steps`: then `score` takes a
    third argument, the `Steps` to estimate the scores from, or None for all.

    Attributes
    ----------
    name
        What results call it.
    higher_is_better
        Whether higher scores are better.

    Examples
    --------
    >>> class Sparsity:
    ...     name = "sparsity"
    ...     higher_is_better = True
    ...
    ...     def score(self, batch, maps):
    ...         return np.mean(np.abs(maps) < 1e-3, axis=(2, 3, 4))
    >>> isinstance(Sparsity(), Objective)
    True
    """

    name: str
    higher_is_better: bool

    def score(self, batch: Batch, maps: np.ndarray) -> np.ndarray:
        """
        Score maps of images.

        Parameters
        ----------
        batch
            B samples: `batch.positions` in the data, `batch.inputs` and `batch.targets`.
        maps
            K maps of each of them, of shape (K, B, ...).

        Returns
        -------
        scores :
            Of shape (K, B), NaN where there is none.
        """
        ...


class Scores(NamedTuple):
    """
    Scores (K, B) of the objective, their estimates (2, K, B) from each half of the steps, NaN where
    there is none, and scores (K, B) of the other objectives by name.
    """

    values: np.ndarray
    halves: np.ndarray
    others: dict[str, np.ndarray]


class WeightedSum:
    """A weighted sum of what metrics measure, which a `Panel` computes."""

    nb_steps = 1

    def __init__(self, name: str, higher_is_better: bool):
        self.name, self.higher_is_better = name, higher_is_better


class WholeScore:
    """
    An objective that is given the maps of all images at once: a function, or `evaluate` of a
    metric that knows its images.
    """

    def __init__(self, function: Callable, described: Any, higher_is_better: bool):
        self.function, self.described = function, described
        self.name = getattr(described, "__name__", type(described).__name__)
        self.higher_is_better = higher_is_better

    @property
    def nb_evaluations(self) -> int:
        return getattr(self.described, "nb_evaluations", 0)

    def score(self, batch: Batch, maps: np.ndarray) -> np.ndarray:
        rows = [np.atleast_1d(np.asarray(self.function(one), np.float64)) for one in maps]
        for row in rows:
            if row.ndim != 1 or len(row) not in (1, maps.shape[1]):
                raise ValueError(
                    f"The objective gave an array of shape {row.shape}; it must give one number, "
                    f"or one for each of the {maps.shape[1]} explanations."
                )
        return np.stack(rows)


class _MapMetric:
    """A complexity metric of Xplique, whose `detailed_evaluate` gives a score for each map."""

    def __init__(self, metric: BaseComplexityMetric, higher_is_better: bool):
        self.described = metric
        self.name, self.higher_is_better = type(metric).__name__, higher_is_better

    def score(self, batch: Batch, maps: np.ndarray) -> np.ndarray:
        return np.stack([self.described.detailed_evaluate(one) for one in maps])


class _SampleMetric:
    """A metric of Xplique whose `detailed_evaluate` takes samples and gives a score for each."""

    def __init__(self, metric: ExplanationMetric, higher_is_better: bool):
        self.described = metric
        self.name, self.higher_is_better = type(metric).__name__, higher_is_better

    def score(self, batch: Batch, maps: np.ndarray) -> np.ndarray:
        metric: Any = self.described
        samples = tf.constant(batch.inputs), tf.constant(batch.targets)
        return np.stack([metric.detailed_evaluate(*samples, tf.constant(one)) for one in maps])


def check_objective(objective: Any, mode: str | None, report: Sequence[str]) -> None:
    """Raise an error unless the objective, its direction and those to report are known."""
    for name in report:
        check_choice("report", name, tuple(NAMED))
    if isinstance(objective, (str, Mapping)):
        checked_sum(objective)
        if mode is not None:
            raise ValueError(
                f"`mode` is {mode!r}, and the direction of {objective!r} is known; leave it "
                "to None."
            )
        return
    if inspect.isclass(objective):
        raise TypeError(
            f"The objective is the class {objective.__name__}; give an instance of it, as in "
            f"SigmaOptimizer(explainer, {objective.__name__}(...))."
        )
    if not (isinstance(objective, (Objective, ExplanationMetric)) or callable(objective)):
        checked_sum(objective)
    is_metric = isinstance(objective, PerImageMetric)
    if not is_metric and isinstance(objective, Objective) and objective.name in NAMED:
        raise ValueError(
            f"The objective is named {objective.name!r}, as one of the package is; give it a name "
            "of its own."
        )
    direction_of(objective, mode)
    if report and is_whole(objective):
        raise ValueError(
            f"`report` is {tuple(report)!r}, and {objective_name(objective)} scores all images at "
            "once; what is reported goes with objectives that score each image: leave it out, or "
            "give an object with `name`, `higher_is_better` and `score`."
        )


def is_whole(objective: Any) -> bool:
    """Whether an objective is given all images at once: a function, or a metric without more."""
    if isinstance(objective, (str, Mapping, Objective, BaseComplexityMetric)):
        return False
    detailed = getattr(objective, "detailed_evaluate", None)
    if not isinstance(objective, ExplanationMetric) or detailed is None:
        return True
    return not {"inputs", "targets"} <= set(inspect.signature(detailed).parameters)


def direction_of(objective: Any, mode: str | None) -> bool:
    """Whether high scores are good: as the objective declares, or else as `mode` says."""
    declared = getattr(objective, "higher_is_better", None)
    if declared is None and type(objective).__module__.startswith("xplique."):
        declared = _DIRECTIONS.get(type(objective).__name__)
    if mode not in ("max", "min", None) or (declared is None and mode is None):
        raise ValueError(
            f"`mode` is {mode!r}; say by 'max' or 'min' whether a high or a low score of "
            f"{objective_name(objective)} is good."
        )
    if declared is not None and mode is not None and declared != (mode == "max"):
        raise ValueError(
            f"`mode` is {mode!r}, and {objective_name(objective)} declares that "
            f"{'high' if declared else 'low'} scores are good; leave it to None."
        )
    return mode == "max" if declared is None else bool(declared)


def objective_name(objective: Any) -> str:
    """The name of an objective, for logs and tables."""
    if isinstance(objective, (str, Mapping)):
        return checked_sum(objective)[0]
    if isinstance(objective, Objective):
        return objective.name
    return getattr(objective, "__name__", type(objective).__name__)


def checked_sum(objective: Any) -> tuple[str, dict[str, float]]:
    """Name of a named objective and its weights; a mapping to weights is named after them."""
    if isinstance(objective, str) and objective in NAMED:
        return objective, NAMED[objective]
    if not isinstance(objective, Mapping) or not objective:
        raise ValueError(
            f"The objective is {objective!r}; give one of {', '.join(map(repr, NAMED))}, a mapping "
            "such as {'insertion': 1, 'mu_fidelity': 1, 'deletion': -1}, an ExplanationMetric of "
            "Xplique, an object with `name`, `higher_is_better` and `score`, or a function of the "
            "explanations."
        )
    weights: dict[str, float] = {}
    for name, weight in objective.items():
        _check_weight(name, weight)
        for measure, factor in NAMED[name].items():
            weights[measure] = weights.get(measure, 0.0) + float(weight) * factor
    weights = {measure: weight for measure, weight in weights.items() if weight}
    if not weights:
        raise ValueError(f"The objective is {dict(objective)!r}; give a weight other than 0.")
    return " ".join(map(_term, objective, objective.values())).removeprefix("+ "), weights


def _check_weight(name: Any, weight: Any) -> None:
    is_number = isinstance(weight, numbers.Real) and bool(np.isfinite(float(weight)))
    if name not in NAMED or not is_number:
        raise ValueError(
            f"The objective holds {name!r}: {weight!r}; its keys must be among "
            f"{', '.join(map(repr, NAMED))} and its weights finite numbers."
        )


def _term(name: str, weight: float) -> str:
    sign, factor = "-" if weight < 0 else "+", abs(weight)
    return f"{sign} {name}" if factor == 1 else f"{sign} {factor:g} {name}"


def adapted(objective: Any, higher_is_better: bool, model: Any, samples: Samples) -> Objective:
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective, BaseComplexityMetric):
        return _MapMetric(objective, higher_is_better)
    if not isinstance(objective, ExplanationMetric):
        return WholeScore(objective, objective, higher_is_better)
    check_same_data(objective, model, samples)
    if not is_whole(objective):
        return _SampleMetric(objective, higher_is_better)
    evaluate = getattr(objective, "evaluate_per_image", objective.evaluate)
    return WholeScore(evaluate, objective, higher_is_better)


def check_same_data(metric: ExplanationMetric, model: Any, samples: Samples) -> None:
    """Raise a ValueError if a metric was built on another model or other inputs than the search."""
    name = type(metric).__name__
    theirs = getattr(metric, "raw_model", metric.model)
    if inspect.isfunction(theirs):
        # Xplique puts the activation on by a function around the model
        theirs = inspect.getclosurevars(theirs).nonlocals.get("model", theirs)
    # ours are scored on the model of the search; theirs score by themselves
    is_own = isinstance(metric, PerImageMetric)
    if not (theirs is model if is_own else share_weights(theirs, model)):
        raise ValueError(
            f"The metric {name} scores the model {_named(theirs)}, and the search the model "
            f"{_named(model)}; build the metric on the model that is explained, or give "
            "SigmaOptimizer(..., model=...)."
        )
    own = getattr(metric, "samples", None)
    if own is samples:
        return
    if own is None:
        own = make_samples(metric.inputs, metric.targets)
    if len(own) != len(samples) or not np.array_equal(own.fingerprints(), samples.fingerprints()):
        raise ValueError(
            f"The metric {name} was built on {len(own)} inputs of shape {own.shape}, and the "
            f"search has {len(samples)} of shape {samples.shape} that are not the same; build the "
            "metric on the inputs and targets that are searched."
        )


def _named(model: Any) -> str:
    return repr(getattr(model, "name", None) or getattr(model, "__name__", type(model).__name__))
