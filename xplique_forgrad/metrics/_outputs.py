"""
What a model's outputs are, and warnings of scores that are none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .._models import are_class_logits, call_model, kind_of_outputs
from .._notices import notify
from .._ranges import check_range
from .._samples import Batch, Samples, first_batch
from .._tasks import CLASSIFICATION, DETECTION, SEGMENTATION, task_of
from ._options import ScoringOptions
from ._scorer import Scorer

# images that tell whether targets and predictions go together
_NB_SCORED = 8


def check_scores(model: Any, samples: Samples, scorer: Scorer) -> bool:
    """
    Warn of a softmax on a softmax, of logits taken for scores, of inputs or baseline out of range,
    and of boxes that the model does not predict.

    Parameters
    ----------
    model
        The model without the activation.
    samples
        Inputs and targets.
    scorer
        Scores the inputs.

    Returns
    -------
    are_probabilities :
        Whether scores are probabilities, as far as is known.

    Raises
    ------
    ValueError
        If the outputs are not of shape (N, classes) and no operator says what to score.
    """
    batch = first_batch(samples)
    check_range(model, lambda: batch.inputs)
    _check_baseline(batch, scorer)
    task = task_of(scorer.options.operator)
    if task == DETECTION:
        return _check_matches(batch, scorer)
    if task not in (CLASSIFICATION, SEGMENTATION):
        return scorer.options.activation is not None
    outputs = call_model(model, batch.inputs[:2])
    several = isinstance(outputs, (list, tuple, dict))
    wanted = ("N", "classes") if task == CLASSIFICATION else ("N", "H", "W", "classes")
    if several or np.ndim(outputs) != len(wanted):
        given = f"{len(outputs)} outputs" if several else f"outputs of shape {outputs.shape}"
        advice = (
            "lambda model, x, y: tf.reduce_sum(model(x)[0] * y, axis=-1) for the first of them"
            if several
            else "'semantic segmentation', or lambda model, x, y: tf.reduce_sum(model(x) * y, "
            f"axis={list(range(1, np.ndim(outputs)))}) for targets of that shape"
        )
        raise ValueError(
            f"The model gives {given} instead of ({', '.join(wanted)}); say what to score by "
            f"`operator=`, for instance {advice}."
        )
    # of a segmenter each pixel has a class
    outputs, targets = (
        values.reshape(-1, values.shape[-1]) for values in (np.asarray(outputs), batch.targets)
    )
    kind = kind_of_outputs(model, outputs)
    _check_activation(kind, outputs, targets, scorer.options)
    return kind != "logits" or scorer.options.activation is not None


def _check_matches(batch: Batch, scorer: Scorer) -> bool:
    """Warn if no box to explain is among the predictions; scores of detection are in [0, 1]."""
    few = [tf.constant(values[:_NB_SCORED]) for values in (batch.inputs, batch.targets)]
    scores = np.asarray(scorer.inference(scorer.model, *few))
    if not scores.any():
        notify(
            f"The boxes to explain match no prediction of the first {len(scores)} images: their "
            "scores are 0, and so are their maps. Give boxes that the model predicts, as corners "
            "x1, y1, x2, y2 in its own units, with one-hot classes."
        )
    return True


def _check_activation(
    kind: str, outputs: np.ndarray, targets: np.ndarray, options: ScoringOptions
) -> None:
    if kind != "logits" and options.activation is not None:
        notify(
            f"The model's outputs are probabilities already ({kind}), and "
            f"activation={options.activation!r} squashes them again: scores differ far less than "
            "they should. Leave `activation` to None, or give a model of logits."
        )
    if options.activation is None and are_class_logits(kind, outputs, targets):
        notify(
            "The model's outputs are no probabilities, and `activation` is None: scores are "
            "logits, which have no common scale over images. Give activation='softmax' (or "
            "'sigmoid') unless you mean that."
        )


def _check_baseline(batch: Batch, scorer: Scorer) -> None:
    baselines = scorer.baselines(batch)
    low, high = float(batch.inputs.min()), float(batch.inputs.max())
    margin = 0.1 * (high - low)
    found = float(baselines.min()), float(baselines.max())
    if found[0] < low - margin or found[1] > high + margin:
        values = f"{found[0]:.4g}" if found[0] == found[1] else f"{found[0]:.4g} to {found[1]:.4g}"
        notify(
            f"`baseline_mode` gives {values}, outside the values of the inputs, {low:.4g} to "
            f"{high:.4g}: give it in the units of the inputs, after preprocessing."
        )
