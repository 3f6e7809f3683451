"""
What the metrics share: Xplique's interface, image by image, for several maps and some steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from xplique.commons.operators_operations import get_inference_function
from xplique.metrics.base import ExplanationMetric

from .._models import in_float32, other_precision
from .._samples import Batch, make_samples
from .._tasks import check_samples
from ._explained import Explainer, explained_batches
from ._options import ScoringOptions
from ._outputs import check_scores
from ._scorer import AUTOMATIC, Scorer


class Steps(NamedTuple):
    """
    Some perturbation steps of each of B samples: numbers (B, s) below `total`, and whether others
    of the same samples were looked at before.
    """

    chosen: np.ndarray
    total: int
    is_more: bool = False


# for each measure the scores and their two halves, of shape (3, K, B)
Parts = dict[str, np.ndarray]


class PerImageMetric(ExplanationMetric):
    """
    A metric of Xplique that scores each image, several maps at once, and reads samples in batches.

    `nb_evaluations` counts the inputs that the model was given since the metric was built.
    """

    name: str
    higher_is_better: bool
    # number of perturbation steps that a score is the mean of
    nb_steps: int

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that `parts` gives."""
        return (self.name,)

    def __init__(self, model: Callable, inputs: Any, targets: Any, scoring: ScoringOptions):
        samples = make_samples(inputs, targets, model)
        check_samples(samples, model, scoring.operator)
        # the first sample is enough for Xplique's constructor, which wants arrays
        super().__init__(
            in_float32(model) if other_precision(model) else model,
            *samples.probe,
            batch_size=scoring.batch_size,
            operator=scoring.operator,
            activation=scoring.activation,
        )
        self.inference_function, self.batch_inference_function = get_inference_function(
            model, scoring.operator
        )
        self.inputs, self.targets = inputs, targets
        self.baseline_mode = scoring.baseline_mode
        # without the activation
        self.raw_model = model
        self.samples = samples
        self.scorer = Scorer(self.model, self.inference_function, samples, scoring)
        self._are_probabilities: bool | None = None

    @property
    def nb_evaluations(self) -> int:
        """Number of inputs that the model was given since the metric was built."""
        return self.scorer.nb_evaluations

    def are_probabilities(self) -> bool:
        """Whether scores are probabilities; looks at the model once, and warns of what is odd."""
        if self._are_probabilities is None:
            self._are_probabilities = check_scores(self.raw_model, self.samples, self.scorer)
        return self._are_probabilities

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What the metric was built with, but model and data."""

    @abstractmethod
    def nb_rows(self, nb_maps: int, share: float) -> int:
        """Number of perturbed inputs of a sample with so many maps, for a share of the steps."""

    @abstractmethod
    def parts(self, batch: Batch, maps: np.ndarray, steps: Steps | None = None) -> Parts:
        """
        Scores of K maps of each of B samples.

        Parameters
        ----------
        batch
            The samples.
        maps
            Explanations of shape (K, B, ...).
        steps
            Perturbation steps to estimate the scores from; None for all.

        Returns
        -------
        parts :
            For each measure an array of shape (3, K, B): the score, and its estimates from every
            other one of these steps, and from the rest of them.
        """

    def takes(self, steps: Steps | None) -> bool:
        """Whether the scores can be estimated from these steps; else `parts` looks at all."""
        return steps is None or self.takes_total(steps.total)

    def takes_total(self, nb_steps: int) -> bool:
        """Whether the scores can be estimated from steps that are counted to this number."""
        return nb_steps == self.nb_steps

    def score(self, batch: Batch, maps: np.ndarray, steps: Steps | None = None) -> np.ndarray:
        """Scores (K, B) of K maps of each sample, as `parts` gives them: an `Objective`."""
        return self.parts(batch, maps, steps)[self.name][0]

    def evaluate_per_image(
        self, explanations: tf.Tensor | np.ndarray | tf.data.Dataset | Explainer
    ) -> np.ndarray:
        """
        Score of each explanation.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, H, W) or (N, H, W, C) for images, (N, T, W) for
            time series and (N, W) for tabular data. Deletion and Insertion average channels,
            MuFidelity sums them. For more than memory holds: a `np.memmap`; a dataset of them,
            batched or not, in the order of the inputs; or an explainer, such as
            `FORGrad(Saliency(model))`, which explains each batch of inputs when it is scored.

        Returns
        -------
        scores :
            Scores of shape (N,). NaN where the model gives NaN.

        Raises
        ------
        ValueError
            If the explanations are not as many or as large as the inputs, or hold NaN.
        TypeError
            If they are no real numbers, or an explainer is a class.
        """
        found = [
            self.parts(batch, part[np.newaxis])[self.name][0, 0]
            for batch, part in self._explained_batches(explanations)
        ]
        return np.concatenate(found)

    def evaluate(self, explanations: tf.Tensor | np.ndarray | tf.data.Dataset | Explainer) -> float:
        """
        Mean score of the explanations over the images.

        Parameters
        ----------
        explanations
            One explanation per input, of shape (N, ...), or what gives them, as
            `evaluate_per_image` takes it.

        Returns
        -------
        score :
            Mean score, equal to that of Xplique (on the same masks for MuFidelity).
        """
        return float(np.mean(self.evaluate_per_image(explanations), dtype=np.float64))

    def _explained_batches(self, explanations: Any) -> Iterator[tuple[Batch, np.ndarray]]:
        """Batches of samples with their explanations, as `evaluate_per_image` takes them."""
        self.are_probabilities()
        size = min(self.scorer.nb_rows, AUTOMATIC)
        for batch, maps in explained_batches(explanations, self.samples, size):
            self.scorer.replicas.check_same("inputs, targets or explanations", *batch[1:], maps)
            yield batch, maps


def check_no_nan(flat: np.ndarray, positions: np.ndarray) -> None:
    """Raise a ValueError that names the first explanation with a NaN; flat is (..., B, n)."""
    bad = np.isnan(flat).any(axis=-1).reshape(-1, len(positions)).any(axis=0)
    if bad.any():
        raise ValueError(
            f"Explanation {positions[int(np.argmax(bad))]} holds NaN values, which have no order. "
            "Look at the model's outputs and gradients for that input, or drop it; "
            "np.nan_to_num(explanations) sets NaN to 0 if that is what you mean."
        )
