"""
What the package works on: kinds of models and inputs, each with what every part of it gives there.

`docs/supported.md` is made of these cells (`python benchmarks/supported.py`), and
`tests/test_kinds.py` runs each of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

# parts of the package, in the order of the table
PARTS = ("filter", "explainer", "metrics", "search", "diagnose", "benchmark")


class Works(NamedTuple):
    """It runs, and gives what it should."""

    note: str = ""


class Refused(NamedTuple):
    """It ends in a ValueError or TypeError with this text in its message."""

    message: str
    note: str = ""


class NotTried(NamedTuple):
    """It is not run, for this reason."""

    reason: str


@dataclass
class Case:
    """
    A model with some inputs, and how they are explained and scored.

    Attributes
    ----------
    model
        The model as a user has it.
    inputs, targets
        Six samples, and what to explain of them.
    explainer
        Builds an explainer of the model.
    sigmas
        Two cutoffs to try.
    axes
        Axes that are filtered; None for the default.
    scoring
        Options of metrics and search: operator, activation, jit_compile.
    score
        The scores (B,) of inputs and targets, written by hand: the reference of metrics.
    operator
        What `diagnose` and `run_benchmark` are given as one.
    methods
        Methods of the benchmark.
    """

    model: Any
    inputs: np.ndarray
    targets: np.ndarray
    explainer: Callable[[Any], Any]
    sigmas: tuple[float, float]
    score: Callable[[np.ndarray, np.ndarray], Any]
    axes: tuple[int, ...] | None = None
    scoring: dict[str, Any] = field(default_factory=dict)
    operator: Any = None
    methods: Any = ("Saliency",)

    @cached_property
    def built(self) -> Any:
        """The explainer of the model, which TensorFlow traces once."""
        return self.explainer(self.model)

    @cached_property
    def maps(self) -> np.ndarray:
        """Explanations of the inputs, as the explainer of Xplique gives them."""
        return np.asarray(self.built.explain(self.inputs, self.targets))


@dataclass(frozen=True, eq=False)
class Kind:
    """
    A row of the table.

    Attributes
    ----------
    section
        Heading of the rows that it stands with.
    name
        What it is, in a few words; Markdown.
    make
        Builds the case. It may end in an ImportError that says what to install.
    cells
        What each part gives there: `Works` where it is not named.
    """

    section: str
    name: str
    make: Callable[[], Case]
    cells: dict[str, Works | Refused | NotTried] = field(default_factory=dict)

    def cell(self, part: str) -> Works | Refused | NotTried:
        """What a part gives there."""
        return self.cells.get(part, Works())


def one_hot(labels, nb_classes=3):
    return np.eye(nb_classes, dtype=np.float32)[np.asarray(labels) % nb_classes]


def samples(*shape, number=6, nb_classes=3):
    """Inputs in [0, 1] of a shape, and targets."""
    rng = np.random.default_rng(0)
    inputs = rng.random((number, *shape)).astype(np.float32)
    return inputs, one_hot(np.arange(number), nb_classes)
