"""
The search that a diagnosis suggests, as code to paste.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from xplique.commons.operators_operations import Tasks

from .._gradients import Operator
from .._models import are_class_logits, call_model, kind_of_outputs
from .._samples import ArraySamples
from .._tasks import CLASSIFICATION, SEGMENTATION, task_of


class Scoring(NamedTuple):
    """
    How a search should score the model that was diagnosed, as far as `diagnose` can tell.

    Attributes
    ----------
    activation
        "softmax" to put on logits of classes, "sigmoid" where targets name several classes or none;
        None for outputs that are probabilities, for a single one, and where an operator scores
        other things than classes.
    baseline_mode
        What removed pixels become: the mean of the inputs, in their own units.
    operator
        The operator as one writes it in Python, "operator" if it has no name; None without one.
    arguments
        What the search is given, "inputs, targets" or "inputs".
    wrapped_shape
        Shape of one input where the model must be wrapped for Xplique, a subclassed one; else None.
    """

    activation: str | None
    baseline_mode: float
    operator: str | None
    arguments: str
    wrapped_shape: tuple[int, ...] | None


def make_scoring(
    model: keras.Model, samples: ArraySamples, operator: Operator, has_targets: bool
) -> Scoring:
    """`Scoring` of a model; `has_targets` if these are an argument of their own."""
    has_inputs = getattr(model, "inputs", None) is not None
    return Scoring(
        _activation(model, samples, operator),
        _mean_of(samples.inputs),
        None if operator is None else _written(operator),
        "inputs, targets" if has_targets else "inputs",
        None if has_inputs else samples.shape,
    )


def snippet(scoring: Scoring, sigmas: list[float]) -> str:
    """Code of the search that scores so; without cutoffs, it tries those of its own."""
    operator = "" if scoring.operator is None else f", operator={scoring.operator}"
    activation = None if scoring.activation is None else f'"{scoring.activation}"'
    lines = [
        "from xplique.attributions import Saliency",
        "from xplique_forgrad import SigmaOptimizer",
        "",
        "optimizer = SigmaOptimizer(",
        f"    Saliency(model{operator}),",
        *([f"    sigmas={sigmas},"] if sigmas else []),
        f"    activation={activation},",
        f"    baseline_mode={scoring.baseline_mode},",
        f"    operator={scoring.operator},",
        ")",
        f"search = optimizer.search({scoring.arguments})",
        "print(search)",
    ]
    if scoring.wrapped_shape is not None:
        wrapping = [
            f"image = keras.Input({scoring.wrapped_shape})",
            "functional = keras.Model(image, model(image))",
        ]
        lines = ["import keras", *lines[:3], *wrapping, *lines[3:]]
        lines = [line.replace("Saliency(model", "Saliency(functional") for line in lines]
    return "\n".join(lines)


def _activation(model: keras.Model, samples: ArraySamples, operator: Operator) -> str | None:
    """What turns the outputs into probabilities."""
    ranks = {CLASSIFICATION: 2, SEGMENTATION: 4}
    task = task_of(operator)
    if task not in ranks:
        return None
    outputs = np.asarray(call_model(model, samples.probe[0]))
    if outputs.ndim != ranks[task]:
        return None
    outputs, targets = (
        values.reshape(-1, values.shape[-1]) for values in (outputs, samples.targets)
    )
    if task == SEGMENTATION:
        # pixels beyond the zones name no class
        targets = targets[targets.any(axis=-1)]
    if not are_class_logits(kind_of_outputs(model, outputs), outputs, targets):
        return None
    return "softmax" if np.all(targets.sum(axis=-1) == 1) else "sigmoid"


def _mean_of(inputs: np.ndarray) -> float:
    """Their mean, to about a hundredth of their range."""
    nb_digits = 2 - int(np.floor(np.log10(np.ptp(inputs.astype(np.float64)))))
    return round(float(inputs.mean(dtype=np.float64)), nb_digits) + 0.0


def _written(operator: Callable | Tasks | str) -> str:
    """An operator as one writes it in Python."""
    if isinstance(operator, str):
        return f'"{operator}"'
    tasks = [name for name, task in vars(Tasks).items() if task is operator and name.isupper()]
    if tasks:
        return f'"{tasks[0].lower().replace("_", " ")}"'
    name = getattr(operator, "__name__", "")
    return name if name.isidentifier() else "operator"
