"""
What a search accepts, and what it says about anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from xplique.metrics.base import ExplanationMetric

from .._checks import check_choice, check_seed
from .objectives import NAMED, checked_objective

STRATEGIES = ("racing", "exhaustive")


def is_whole(objective: Any) -> bool:
    """Whether an objective scores all explanations together: a metric of Xplique or a function."""
    is_named = isinstance(objective, (str, Mapping))
    return not is_named and (isinstance(objective, ExplanationMetric) or callable(objective))


def check_settings(
    *,
    explainer: Any,
    objective: Any,
    strategy: str,
    report: Sequence[str],
    tolerance: float,
    z: float,
    refine: bool,
    mode: str | None,
    activation: str | None,
    seed: int,
    every: int | None,
    validation_data: Any,
) -> None:
    """Raise a ValueError or TypeError unless each setting of `SigmaOptimizer` is usable."""
    if explainer is not None and not callable(getattr(explainer, "explain", None)):
        raise TypeError(
            f"The explainer is {explainer!r}; give an explainer of Xplique such as "
            "Saliency(model), a class of explainers, or None with given explanations."
        )
    check_choice("strategy", strategy, STRATEGIES)
    check_choice("activation", activation, ("softmax", "sigmoid", None))
    if is_whole(objective):
        if mode not in ("max", "min"):
            raise ValueError(
                f"`mode` is {mode!r}; say by 'max' or 'min' whether a high or a low score of "
                f"{objective!r} is good."
            )
        if report or refine:
            raise ValueError(
                "`report` and `refine` go with the named objectives; leave them out for a "
                "metric or a function."
            )
    else:
        checked_objective(objective)
        if mode is not None:
            raise ValueError(
                f"`mode` is {mode!r}, and the direction of {objective!r} is known; leave it "
                "to None."
            )
    for name in report:
        check_choice("report", name, tuple(NAMED))
    for name, value in (("tolerance", tolerance), ("z", z)):
        if not 0 <= value < np.inf:
            raise ValueError(f"`{name}` is {value!r}; it must be a number of 0 or more.")
    check_seed(seed)
    if every is not None and every < 1:
        raise ValueError(f"`every` is {every!r}; give a number of epochs, or None.")
    is_pair = isinstance(validation_data, (tuple, list)) and len(validation_data) == 2
    if not (validation_data is None or is_pair or isinstance(validation_data, tf.data.Dataset)):
        raise ValueError(
            f"`validation_data` is a {type(validation_data).__name__}; give a pair "
            "(inputs, targets), or a dataset of such pairs."
        )
