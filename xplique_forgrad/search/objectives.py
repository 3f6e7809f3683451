"""
What a search optimises and reports: weighted sums of Insertion, Deletion and MuFidelity.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._samples import Samples
from ..metrics import Deletion, Faithfulness, Insertion, MuFidelity
from ..metrics.curves import area_under
from ..metrics.mu_fidelity import rank_correlation

# each objective as a weighted sum of metrics; of Deletion alone, lower is better
NAMED: dict[str, dict[str, float]] = {
    "faithfulness": {"insertion": 1.0, "deletion": -1.0},
    "insertion": {"insertion": 1.0},
    "deletion": {"deletion": 1.0},
    "mu_fidelity": {"mu_fidelity": 1.0},
}
_METRICS = ("insertion", "deletion", "mu_fidelity")


def checked_objective(objective: Any) -> tuple[str, dict[str, float]]:
    """Name of an objective and its weights; a mapping of metrics to weights is named after them."""
    if isinstance(objective, str) and objective in NAMED:
        return objective, NAMED[objective]
    if not isinstance(objective, Mapping) or not objective:
        raise ValueError(
            f"The objective is {objective!r}; give one of {', '.join(map(repr, NAMED))}, a mapping "
            "such as {'insertion': 1, 'mu_fidelity': 1, 'deletion': -1}, an ExplanationMetric of "
            "Xplique, or a function of the explanations."
        )
    weights: dict[str, float] = {}
    for name, weight in objective.items():
        if (
            name not in NAMED
            or not isinstance(weight, numbers.Real)
            or not np.isfinite(float(weight))
        ):
            raise ValueError(
                f"The objective holds {name!r}: {weight!r}; its keys must be among "
                f"{', '.join(map(repr, NAMED))} and its weights finite numbers."
            )
        for metric, factor in NAMED[name].items():
            weights[metric] = weights.get(metric, 0.0) + float(weight) * factor
    weights = {metric: weight for metric, weight in weights.items() if weight}
    if not weights:
        raise ValueError(f"The objective is {dict(objective)!r}; give a weight other than 0.")
    terms = [
        ("- " if weight < 0 else "+ ") + (f"{abs(weight):g} " if abs(weight) != 1 else "") + name
        for name, weight in objective.items()
    ]
    return " ".join(terms).removeprefix("+ "), weights


class Objectives:
    """
    The objective to optimise and those to report, scored for several maps of each image at once.

    Parameters
    ----------
    objective
        Name or mapping of the objective to optimise.
    report
        Names of others to report.
    model
        Model that is scored.
    samples
        Inputs and targets.
    causal
        Options of Insertion and Deletion.
    fidelity
        Options of MuFidelity.
    common
        Options of all three.
    """

    def __init__(
        self,
        objective: Any,
        report: Sequence[str],
        model: Any,
        samples: Samples,
        causal: dict,
        fidelity: dict,
        common: dict,
    ):
        self.name, weights = checked_objective(objective)
        self.weights: dict[str, dict[str, float]] = {self.name: weights}
        for other in report:
            self.weights[other] = NAMED[other]
        # what is computed anyway is reported too
        for metric in _METRICS:
            if any(metric in weights for weights in self.weights.values()):
                self.weights.setdefault(metric, NAMED[metric])
        # of a mapping the weights say the direction
        self.higher_is_better = objective != "deletion"

        self._causal: Any = None
        self._fidelity: Any = None
        modes = {metric for metric in self.weights if metric in ("insertion", "deletion")}
        if modes:
            kinds = {"insertion": Insertion, "deletion": Deletion}
            kind = Faithfulness if len(modes) == 2 else kinds[modes.pop()]
            self._causal = kind(model, samples, **causal, **common)
        if "mu_fidelity" in self.weights:
            common = {**common, "baseline_mode": _per_input(common["baseline_mode"])}
            self._fidelity = MuFidelity(model, samples, **fidelity, **common)

    @property
    def nb_evaluations(self) -> int:
        """Number of inputs that the model was given."""
        metrics = (self._causal, self._fidelity)
        return sum(metric.nb_evaluations for metric in metrics if metric is not None)

    def probe(self) -> list[str]:
        """Scores of the first input and its baseline, which tell models and baselines apart."""
        metric = self._causal or self._fidelity
        inputs, targets = metric.samples.probe
        baseline = metric.probe_baseline()
        score = metric.batch_inference_function
        found = [float(score(metric.model, x, targets, 1)[0]) for x in (inputs, baseline)]
        return [f"{value:.4g}" for value in (*found, baseline.mean(), baseline.std())]

    def score(
        self, positions: np.ndarray, inputs: np.ndarray, targets: np.ndarray, maps: np.ndarray
    ) -> dict[str, np.ndarray]:
        """
        Scores of K maps of each of B images.

        Returns
        -------
        scores
            For each objective an array of shape (3, K, B): the score, and its estimates from every
            other perturbation step or mask, and from the rest of them.
        """
        found = {}
        if self._causal is not None:
            curves = self._causal.batch_curves(positions, inputs, targets, maps)
            steps = self._causal.nb_perturbed
            is_whole = self._causal.max_nb_perturbed == self._causal.nb_features
            found = {mode: _areas(values, steps, is_whole) for mode, values in curves.items()}
        if self._fidelity is not None:
            drops, sums = self._fidelity.batch_terms(positions, inputs, targets, maps)
            parts = (slice(None), slice(None, None, 2), slice(1, None, 2))
            found["mu_fidelity"] = np.stack(
                [rank_correlation(drops[:, part], sums[..., part]) for part in parts]
            )
        return {
            name: np.sum([weight * found[metric] for metric, weight in weights.items()], axis=0)
            for name, weights in self.weights.items()
        }


def _areas(curves: np.ndarray, nb_perturbed: np.ndarray, is_whole: bool) -> np.ndarray:
    """Area under curves (K, B, steps + 1), and its estimates from each half of the inner steps."""
    _, distinct = np.unique(nb_perturbed, return_index=True)
    heights = curves[..., distinct].astype(np.float64)
    ends, inner = (heights[..., 0] + heights[..., -1]) / 2, heights[..., 1:-1]
    nb_inner = float(inner.shape[-1])
    if not is_whole:
        # the last step depends on the explanation as the inner ones do, at half their weight
        ends, inner = heights[..., 0] / 2, heights[..., 1:]
        nb_inner = inner.shape[-1] - 0.5
    if inner.shape[-1] < 2:
        halves = [np.full(ends.shape, np.nan)] * 2
    else:
        means = [inner[..., first::2].mean(axis=-1) for first in (0, 1)]
        halves = [(ends + nb_inner * mean) / (heights.shape[-1] - 1) for mean in means]
    return np.stack([area_under(curves, nb_perturbed), *halves])


def _per_input(baseline_mode: Any) -> Any:
    """A baseline function of inputs (B, ...) for MuFidelity, which gives inputs (B, 1, ...)."""
    if not callable(baseline_mode):
        return baseline_mode
    return lambda inputs: np.asarray(baseline_mode(inputs.numpy()[:, 0]))
