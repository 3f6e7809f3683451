"""
The options of the metrics, as typed values that say what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from .._checks import check_choice, check_count, check_seed
from .._tasks import check_activation, check_is_operator

Baseline = float | np.ndarray | Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ScoringOptions:
    """How the model scores inputs, in every metric; see `Deletion` for the fields."""

    batch_size: int | str | None = 64
    baseline_mode: Baseline = 0.0
    operator: Any = None
    activation: str | None = None
    jit_compile: bool = False
    strategy: tf.distribute.Strategy | None = None

    def __post_init__(self) -> None:
        size = self.batch_size
        is_number = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
        if not (size in (None, "auto") or (is_number and int(size or 0) > 0)):
            raise ValueError(
                f"`batch_size` is {size!r}; give the number of inputs to evaluate at once, None "
                "for all at once, or 'auto'."
            )
        check_choice("activation", self.activation, ("softmax", "sigmoid", None))
        check_is_operator(self.operator)
        check_activation(self.activation, self.operator)
        if not isinstance(self.jit_compile, bool):
            raise ValueError(f"`jit_compile` is {self.jit_compile!r}; give True or False.")

    def to_dict(self) -> dict[str, Any]:
        """What scores depend on: all but the devices that compute them."""
        return {name: value for name, value in vars(self).items() if name != "strategy"}


@dataclass(frozen=True)
class CausalOptions:
    """What Insertion and Deletion perturb; see `Deletion` for the fields."""

    steps: int = 10
    max_percentage_perturbed: float = 1.0
    patch_size: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.max_percentage_perturbed <= 1:
            raise ValueError(
                f"`max_percentage_perturbed` is {self.max_percentage_perturbed}; it must be in "
                "]0, 1]."
            )
        if self.steps != -1 and self.steps < 1:
            raise ValueError(
                f"`steps` is {self.steps}; give at least 1, or -1 for one per feature."
            )
        check_count("patch_size", self.patch_size)


@dataclass(frozen=True)
class MaskOptions:
    """The masks of MuFidelity; see there for the fields."""

    grid_size: int | None = 9
    subset_percent: float = 0.2
    nb_samples: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.subset_percent < 1:
            raise ValueError(f"`subset_percent` is {self.subset_percent}; it must be in ]0, 1[.")
        if self.nb_samples < 2:
            raise ValueError(f"`nb_samples` is {self.nb_samples}; a correlation takes at least 2.")
        check_seed(self.seed)
        if self.grid_size is not None and self.grid_size < 1:
            raise ValueError(
                f"`grid_size` is {self.grid_size}; give at least 1, or None for pixels."
            )
