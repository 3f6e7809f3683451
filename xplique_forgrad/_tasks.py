"""
Tasks of Xplique's operators: what the model must give for them, and what their targets must be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from xplique.commons.operators_operations import Tasks, check_operator, get_operator

from ._checks import batch_shape
from ._models import output_shape
from ._samples import ArraySamples, Samples, check_one_hot, first_batch

CLASSIFICATION, REGRESSION = "classification", "regression"
SEGMENTATION, DETECTION = "semantic segmentation", "object detection"
# as Xplique names them
_NAMES = (
    *(CLASSIFICATION, REGRESSION, SEGMENTATION, DETECTION),
    *(f"{DETECTION} box {part}" for part in ("position", "proba", "class")),
)
# what the model gives for each
_OUTPUTS = {
    SEGMENTATION: ("N", "H", "W", "classes"),
    DETECTION: ("N", "boxes", "4 + 1 + classes"),
}


def check_is_operator(operator: Any) -> None:
    """Raise an error unless this is a task of Xplique, a function of three arguments, or None."""
    if isinstance(operator, str) and operator not in _NAMES:
        raise ValueError(
            f"`operator` is {operator!r}; it must be one of {', '.join(map(repr, _NAMES))}, or a "
            "function of model, inputs and targets that gives the scores (N,)."
        )
    if operator is None or isinstance(operator, str):
        return
    try:
        check_operator(operator)
    except Exception as error:
        raise TypeError(
            f"`operator` is {operator!r}; give the name of a task, such as {DETECTION!r}, or a "
            "function of model, inputs and targets that gives the scores (N,)."
        ) from error


def task_of(operator: Callable | Tasks | str | None) -> str | None:
    """
    The task of an operator; None for one of the user's own.

    Xplique's "regression" is told from "classification" by its name alone: they are one function.
    """
    if operator is None or operator == REGRESSION:
        return operator or CLASSIFICATION
    while isinstance(operator, functools.partial):
        operator = operator.func
    function = get_operator(operator) if isinstance(operator, str) else operator
    tasks = (name for name in _NAMES if get_operator(name) is function)
    found = next(tasks, None)
    # box position, box proba and box class take what detection takes
    return DETECTION if found and found.startswith(DETECTION) else found


def check_activation(activation: str | None, operator: Any) -> None:
    """Raise a ValueError if an activation would change what are no scores of classes."""
    task = task_of(operator)
    if activation is not None and task in (DETECTION, REGRESSION):
        values = "the corners of boxes" if task == DETECTION else "real values"
        raise ValueError(
            f"activation={activation!r} would squash {values}, which operator={task!r} scores as "
            "they are; leave `activation` to None."
        )


def check_samples(samples: Samples, model: Any, operator: Any = None) -> None:
    """Raise a ValueError unless the operator takes targets as those of these samples."""
    task = task_of(operator)
    found = samples.probe[1].shape[1:]
    check_targets(found, model, operator)
    if task == REGRESSION and not samples.has_labels and found[-1] > 1:
        raise ValueError(
            f"`targets` is None, and a regression of {found[-1]} outputs predicts no class; give "
            "targets of shape (N, outputs) that are 1 for the output to explain, and 0 elsewhere."
        )
    if isinstance(samples, ArraySamples):
        check_values(samples.targets, np.arange(len(samples)), operator)
    elif task in _OUTPUTS:
        batch = first_batch(samples)
        check_values(batch.targets, batch.positions, operator)


def check_targets(found: tuple[int | None, ...], model: Any, operator: Any = None) -> None:
    """Raise a ValueError unless the operator takes targets (N, *found) for such a model."""
    task = task_of(operator)
    if task in (CLASSIFICATION, REGRESSION):
        check_one_hot(found, model)
    if task not in _OUTPUTS:
        return
    outputs = _checked_outputs(model, task)
    if task == SEGMENTATION:
        fits = len(found) == 3 and _agree(found, outputs[1:])
        advice = (
            "masks of the same shape, which are 0 but in the zone and the class to explain, such "
            "as tf.one_hot(labels, nb_classes) * zone[..., tf.newaxis]."
        )
    else:
        fits = len(found) in (1, 2) and _agree(found[-1:], outputs[-1:])
        advice = (
            "(N, 4 + 1 + classes), or several boxes of each image, (N, boxes, 4 + 1 + classes): "
            "corners x1, y1, x2, y2 as the model gives them, 1, and one-hot classes. Rows of zeros "
            "fill up."
        )
    if not fits:
        raise ValueError(
            f"`targets` have shape {batch_shape(found)} and the model's outputs "
            f"{batch_shape(outputs[1:])}; "
            f"operator={task!r} takes {advice}"
        )


def check_values(targets: np.ndarray, positions: np.ndarray, operator: Any) -> None:
    """Raise a ValueError that names the first image whose mask or boxes name nothing."""
    task = task_of(operator)
    if task not in _OUTPUTS:
        return
    targets = np.asarray(targets)
    is_empty = (targets == 0).reshape(len(targets), -1).all(axis=1)
    if is_empty.any():
        what = "mask" if task == SEGMENTATION else "boxes"
        raise ValueError(
            f"The target of image {positions[np.argmax(is_empty)]} is 0 everywhere; with operator="
            f"{task!r} its {what} must name what to explain. Drop the image, or explain another "
            "part of it."
        )
    if task == DETECTION:
        boxes = targets.reshape(len(targets), -1, targets.shape[-1])
        sides = boxes[..., 2:4] - boxes[..., :2]
        is_odd = (boxes != 0).any(axis=-1) & (sides <= 0).any(axis=-1)
        if is_odd.any():
            image, box = np.argwhere(is_odd)[0]
            raise ValueError(
                f"The target of image {positions[image]} has a box {boxes[image, box, :4]}, which "
                "is empty; a box is its corners x1, y1, x2, y2, with x1 < x2 and y1 < y2."
            )


def _checked_outputs(model: Any, task: str) -> tuple[Any, ...]:
    """Shape of the model's outputs, names where they are not known; an error if they do not fit."""
    wanted = _OUTPUTS[task]
    found = output_shape(model)
    if found is None:
        return wanted
    if not isinstance(found, tuple) or len(found) != len(wanted):
        given = (
            f"outputs of shape {batch_shape(found[1:])}"
            if isinstance(found, tuple)
            else f"{len(found)} outputs"
        )
        advice = {
            SEGMENTATION: "",
            DETECTION: ": corners x1, y1, x2, y2, objectness and class scores of all boxes before "
            "any suppression. End the model in a layer that decodes its outputs so",
        }[task]
        raise ValueError(
            f"The model {model.name!r} gives {given}; operator={task!r} takes one of shape "
            f"({', '.join(wanted)}){advice}."
        )
    return tuple(size or name for size, name in zip(found, wanted))


def _agree(found: tuple[Any, ...], wanted: tuple[Any, ...]) -> bool:
    """Whether two shapes are equal as far as they are known."""
    return all(
        one == other or not (isinstance(one, int) and isinstance(other, int))
        for one, other in zip(found, wanted)
    )
